"""Shapes of JSON values as data, and the one function that compares a value with its shape. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from app.errors import Fault

JsonType = Literal["boolean", "integer", "string", "array", "object"]

# PostgreSQL's jsonb refuses NUL, and lone surrogates have no UTF-8 form: neither can be stored or sent.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_LAYOUT = str.maketrans("", "", "\t\n\r")
_SHOWN_CHARS = 40
_MAX_STEP_LENGTH = 200
_NAMES = {"boolean": "true or false", "array": "an array", "object": "an object"}


@dataclass(frozen=True, slots=True, eq=False)
class ValueSchema:
    """What a JSON value must look like. Bounds are inclusive; None means no bound.

    Strings are never blank and hold no control characters, but for tabs and line ends when `multiline`.
    Arrays hold distinct `items`; where `ordered` is false their order means nothing. Objects hold no other `fields`.
    """

    type: JsonType
    values: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    max_length: int | None = None
    multiline: bool = False
    items: "ValueSchema | None" = None
    min_items: int = 0
    max_items: int | None = None
    ordered: bool = True
    fields: Mapping[str, "ValueSchema"] = field(default_factory=dict)
    required: tuple[str, ...] = ()


def validate(shape: ValueSchema, value: Any, pointer: str) -> Iterator[Fault]:
    """Everything wrong with `value`, a parsed JSON value that stands at `pointer`."""
    match shape.type, value:
        case "boolean", bool():
            return
        case "integer", int() if not isinstance(value, bool):
            yield from _integer_faults(shape, value, pointer)
        case "string", str():
            yield from _string_faults(shape, value, pointer)
        case "array", list():
            yield from _array_faults(shape, value, pointer)
        case "object", dict():
            yield from _object_faults(shape, value, pointer)
        case _:
            yield Fault(pointer, f"needs {expectation(shape)}, got {_kind(value)}")


def expectation(shape: ValueSchema) -> str:
    """What would be right, as the object of a sentence: `an integer from 2 to 100`."""
    match shape.type:
        case "integer":
            return f"an integer{_range(shape)}"
        case "string" if shape.values:
            return f"one of {', '.join(shape.values)}"
        case "string":
            return "a string that is not blank" + (
                f", at most {shape.max_length} characters" if shape.max_length else ""
            )
        case "array" if shape.items is not None and shape.items.type in {"string", "integer"}:
            return f"an array of {shape.items.type}s"
        case other:
            return _NAMES[other]


def json_pointer(pointer: str, token: str | int) -> str:
    """A JSON pointer one step deeper, escaped as RFC 6901 asks, and cut; what UTF-8 cannot carry becomes `?`."""
    text = str(token)[:_MAX_STEP_LENGTH].encode(errors="replace").decode()
    return f"{pointer}/{text.replace('~', '~0').replace('/', '~1')}"


def quoted(text: str) -> str:
    """The start of a client's string, quoted, safe to put into a message."""
    return repr(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…")


def _integer_faults(shape: ValueSchema, value: int, pointer: str) -> Iterator[Fault]:
    too_small = shape.minimum is not None and value < shape.minimum
    too_large = shape.maximum is not None and value > shape.maximum
    if too_small or too_large:
        yield Fault(pointer, f"needs {expectation(shape)}")


def _string_faults(shape: ValueSchema, value: str, pointer: str) -> Iterator[Fault]:
    checked = value.translate(_LAYOUT) if shape.multiline else value
    if shape.values and value not in shape.values:
        yield Fault(pointer, f"needs {expectation(shape)}; got {quoted(value)}")
    elif not value.strip() or (shape.max_length is not None and len(value) > shape.max_length):
        yield Fault(pointer, f"needs {expectation(shape)}")
    elif _UNPRINTABLE.search(checked):
        yield Fault(pointer, f"needs {expectation(shape)}, without control characters and lone surrogates")


def _array_faults(shape: ValueSchema, value: list[Any], pointer: str) -> Iterator[Fault]:
    if len(value) < shape.min_items or (shape.max_items is not None and len(value) > shape.max_items):
        yield Fault(pointer, f"needs {_count(shape)}, got {len(value)}")
        return
    seen: set[Any] = set()
    for index, item in enumerate(value):
        at = json_pointer(pointer, index)
        faults = list(validate(shape.items, item, at)) if shape.items is not None else []
        yield from faults
        if not faults and item in seen:
            yield Fault(at, "needs to be named only once in the list")
        if not faults:
            seen.add(item)


def _object_faults(shape: ValueSchema, value: dict[str, Any], pointer: str) -> Iterator[Fault]:
    for name in shape.required:
        if name not in value:
            yield Fault(json_pointer(pointer, name), "needs to be present")
    for name, item in value.items():
        at = json_pointer(pointer, name)
        if name in shape.fields:
            yield from validate(shape.fields[name], item, at)
        else:
            yield Fault(at, f"is not known here; known are {', '.join(shape.fields)}")


def _count(shape: ValueSchema) -> str:
    if shape.min_items == shape.max_items:
        return f"exactly {shape.min_items} element{'s' if shape.min_items != 1 else ''}"
    if shape.max_items is None:
        return f"at least {shape.min_items} elements"
    return f"{shape.min_items} to {shape.max_items} elements"


def _range(shape: ValueSchema) -> str:
    if shape.minimum is not None and shape.maximum is not None:
        return f" from {shape.minimum} to {shape.maximum}"
    return "" if shape.minimum is None else f" of at least {shape.minimum}"


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null: leave it out instead"
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
