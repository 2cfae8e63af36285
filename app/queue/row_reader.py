"""Dataclasses that are read from rows by name: a field is the column of its name unless a `Column` says otherwise."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from operator import itemgetter
from typing import Any, Generic, Protocol, TypeVar, get_type_hints

T = TypeVar("T")


class Row(Protocol):
    """Values by name: a record of asyncpg, or a RowMapping of SQLAlchemy."""

    def __getitem__(self, name: str, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Column:
    """Part of an `Annotated`: the SQL of a field, and the function that makes its value from the row.

    Without `read` the value is that of the SQL.
    """

    sql: str
    read: Callable[[Row], Any] | None = None


class RowReader(Generic[T]):
    """Makes objects of a dataclass from rows that have a column for each field."""

    def __init__(self, declaration: type[T]) -> None:
        self._declaration = declaration
        # In the order of the fields, so that values are passed by position.
        self._fields: list[tuple[str, Callable[[Row], Any]]] = [
            (name, column.read if column and column.read else itemgetter(name))
            for name, column in _columns(declaration).items()
        ]

    def read(self, row: Row, **given: Any) -> T:
        """`given` values take the place of columns. The row needs no column for them."""
        return self._declaration(*[given[name] if name in given else read(row) for name, read in self._fields])


def sql_columns(declaration: type, table: str) -> dict[str, str]:
    """The SQL of each field by its name."""
    return {name: column.sql if column else f"{table}.{name}" for name, column in _columns(declaration).items()}


def json_object(columns: Mapping[str, str]) -> str:
    """The SQL of a JSON object with these members."""
    members = ", ".join(f"'{name}', {sql}" for name, sql in columns.items())
    return f"json_build_object({members})"


def _columns(declaration: type) -> dict[str, Column | None]:
    hints = get_type_hints(declaration, include_extras=True)
    return {
        field.name: next(
            (part for part in getattr(hints[field.name], "__metadata__", ()) if isinstance(part, Column)), None
        )
        for field in fields(declaration)
    }
