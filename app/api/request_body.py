"""What all bodies of requests have in common: they hold nothing unknown, and no floods."""

from collections.abc import Sequence
from typing import Any

from annotated_types import MaxLen
from pydantic import BaseModel, ConfigDict, model_validator

from app.errors import Fault, InvalidRequest

# More than anyone mistypes, and more than any field may hold that does not say so itself.
MAX_ITEMS = 100


class RequestBody(BaseModel):
    """Every model of a request's body comes from this one."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _reject_oversized(cls, body: Any) -> Any:
        """One complaint, before anything is looked at: one for each of a million fields takes ten seconds to write.

        Raises InvalidRequest, and not what pydantic would collect: then FastAPI reads no body of megabytes again.
        """
        if isinstance(body, dict):
            _limit("", body, MAX_ITEMS)
            for name, value in body.items():
                # Few have so many that their field's own limit has to be looked up.
                if isinstance(value, dict | list) and len(value) > MAX_ITEMS and name in cls.model_fields:
                    _limit(f"/{name}", value, _most(cls.model_fields[name].metadata))
        return body


def _limit(pointer: str, value: dict[str, Any] | list[Any], most: int) -> None:
    if len(value) <= most:
        return
    members = "fields" if isinstance(value, dict) else "items"
    detail = f"has {len(value):,} {members}; more than {most:,} are not looked at"
    raise InvalidRequest(f"{pointer or 'The body'} {detail}.", faults=[Fault(pointer, detail)])


def _most(metadata: Sequence[Any]) -> int:
    return next((each.max_length for each in metadata if isinstance(each, MaxLen)), MAX_ITEMS)
