"""Schemas of JSON values, and the validation of a value against its schema. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from app.errors import Fault, json_pointer
from app.urls import find_control_character

JsonType = Literal["boolean", "integer", "string", "array", "object"]

_WHITESPACE = str.maketrans("", "", "\t\n\r")
_MAX_QUOTED_CHARS = 40
_NAMES = {"boolean": "true or false", "array": "an array", "object": "an object"}


@dataclass(frozen=True, slots=True, eq=False)
class ValueSchema:
    """The schema of a JSON value. Bounds are inclusive. None means no bound.

    Strings must not be blank or contain control characters, except tabs and line ends if `multiline`.
    `besides` are integers that are valid outside of the bounds. The items of an array must differ if they are `unique`.
    If `ordered` is false, their order has no meaning. Objects may have only the listed `fields`, or any names with
    values of the schema `values_of`; `max_items` limits these names.
    """

    type: JsonType
    values: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    besides: tuple[int, ...] = ()
    max_length: int | None = None
    multiline: bool = False
    items: "ValueSchema | None" = None
    min_items: int = 0
    max_items: int | None = None
    ordered: bool = True
    unique: bool = True
    fields: Mapping[str, "ValueSchema"] = field(default_factory=dict)
    values_of: "ValueSchema | None" = None
    required: tuple[str, ...] = ()


def validate(schema: ValueSchema, value: Any, pointer: str) -> Iterator[Fault]:
    """All faults of a parsed JSON value. `pointer` is the JSON pointer of the value."""
    match schema.type, value:
        case "boolean", bool():
            return
        case "integer", int() if not isinstance(value, bool):
            yield from _integer_faults(schema, value, pointer)
        case "string", str():
            yield from _string_faults(schema, value, pointer)
        case "array", list():
            yield from _array_faults(schema, value, pointer)
        case "object", dict() if schema.values_of is not None:
            yield from _map_faults(schema, schema.values_of, value, pointer)
        case "object", dict():
            yield from _object_faults(schema, value, pointer)
        case _:
            yield Fault(pointer, f"needs {expectation(schema)}, got {_kind(value)}")


def expectation(schema: ValueSchema) -> str:
    """A valid value as the object of a sentence: `an integer from 2 to 100`."""
    match schema.type:
        case "integer":
            return f"an integer{_range(schema)}{''.join(f' or {value}' for value in schema.besides)}"
        case "string" if schema.values:
            return f"one of {', '.join(schema.values)}"
        case "string":
            return "a string that is not blank" + (
                f", at most {schema.max_length} characters" if schema.max_length else ""
            )
        case "array" if schema.items is not None and schema.items.type in {"string", "integer"}:
            return f"an array of {schema.items.type}s"
        case other:
            return _NAMES[other]


def quoted(text: str) -> str:
    """The start of a client's string, quoted for a message."""
    return repr(text if len(text) <= _MAX_QUOTED_CHARS else text[:_MAX_QUOTED_CHARS] + "…")


def _integer_faults(schema: ValueSchema, value: int, pointer: str) -> Iterator[Fault]:
    too_small = schema.minimum is not None and value < schema.minimum
    too_large = schema.maximum is not None and value > schema.maximum
    if (too_small or too_large) and value not in schema.besides:
        yield Fault(pointer, f"needs {expectation(schema)}")


def _string_faults(schema: ValueSchema, value: str, pointer: str) -> Iterator[Fault]:
    checked = value.translate(_WHITESPACE) if schema.multiline else value
    if schema.values and value not in schema.values:
        yield Fault(pointer, f"needs {expectation(schema)}; got {quoted(value)}")
    elif not value.strip() or (schema.max_length is not None and len(value) > schema.max_length):
        yield Fault(pointer, f"needs {expectation(schema)}")
    elif find_control_character(checked):
        yield Fault(pointer, f"needs {expectation(schema)}, without control characters and lone surrogates")


def _array_faults(schema: ValueSchema, value: list[Any], pointer: str) -> Iterator[Fault]:
    if len(value) < schema.min_items or (schema.max_items is not None and len(value) > schema.max_items):
        yield Fault(pointer, f"needs {_count(schema)}, got {len(value)}")
        return
    seen: set[Any] = set()
    for index, item in enumerate(value):
        at = json_pointer(pointer, index)
        faults = list(validate(schema.items, item, at)) if schema.items is not None else []
        yield from faults
        if not schema.unique or faults:
            continue
        if item in seen:
            yield Fault(at, "occurs twice in the list: remove one")
        seen.add(item)


def _object_faults(schema: ValueSchema, value: dict[str, Any], pointer: str) -> Iterator[Fault]:
    for name in schema.required:
        if name not in value:
            yield Fault(json_pointer(pointer, name), "is required")
    for name, item in value.items():
        at = json_pointer(pointer, name)
        if name in schema.fields:
            yield from validate(schema.fields[name], item, at)
        else:
            yield Fault(at, f"is not a known field; use {', '.join(schema.fields)}")


def _map_faults(schema: ValueSchema, values_of: ValueSchema, value: dict[str, Any], pointer: str) -> Iterator[Fault]:
    if schema.max_items is not None and len(value) > schema.max_items:
        yield Fault(pointer, f"needs at most {schema.max_items:,} names, got {len(value):,}")
        return
    for name, item in value.items():
        at = json_pointer(pointer, name)
        if not name.strip() or find_control_character(name):
            yield Fault(at, "needs a name that is not blank and has no control characters")
        yield from validate(values_of, item, at)


def _count(schema: ValueSchema) -> str:
    if schema.min_items == schema.max_items:
        return f"exactly {schema.min_items} element{'s' if schema.min_items != 1 else ''}"
    if schema.max_items is None:
        return f"at least {schema.min_items} elements"
    return f"{schema.min_items} to {schema.max_items} elements"


def _range(schema: ValueSchema) -> str:
    if schema.minimum is not None and schema.maximum is not None:
        return f" from {schema.minimum} to {schema.maximum}"
    return "" if schema.minimum is None else f" of at least {schema.minimum}"


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null; leave the field out instead"
        case bool():
            return str(value).lower()
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
