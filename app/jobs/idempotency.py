"""`Idempotency-Key`: what makes repeating a POST safe."""

from contextlib import suppress
from typing import Annotated, Any

from fastapi import Header
from pydantic import BeforeValidator

from app.urls import find_control_character


def read_key(value: Any) -> Any:
    """The key as it was meant. Raises ValueError.

    Starlette reads headers as Latin-1, but what is not ASCII comes as UTF-8 from nearly everybody.
    """
    if not isinstance(value, str):
        return value
    with suppress(UnicodeError):
        value = value.encode("latin-1").decode()
    if control := find_control_character(value):
        raise ValueError(f"holds the control character {control}; remove it")
    return value


IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Makes repeating safe: the same key with the same body is the same job, however often it comes."
        " Any characters but control characters; in UTF-8 what is not ASCII.",
        # For the document alone: a refusal speaks in words.
        json_schema_extra={"pattern": r"^[^\x00-\x1f\x7f-\x9f]+$"},
    ),
    BeforeValidator(read_key),
]
