"""Types of query parameters and headers, and the filters that several lists share.

pydantic alone accepts more than the API promises: `1_0`, `+10`, `10.0` and ` 10 ` as integers, numbers as instants.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import BeforeValidator, WithJsonSchema

from app.catalogue import RegionName

_INTEGER = re.compile(r"-?[0-9]+")
# An unescaped `+` of an offset arrives as a space.
_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d+))?(?:[Zz]|([+ -])(\d\d:\d\d))", re.ASCII)


def require_digits(value: Any) -> Any:
    """The value unchanged, for pydantic to convert. Raises ValueError for a string that is not a decimal integer."""
    if isinstance(value, str) and not _INTEGER.fullmatch(value):
        raise ValueError("needs to be an integer")
    return value


def parse_instant(value: Any) -> Any:
    """The instant in UTC; digits after microseconds are dropped. Raises ValueError if it is not RFC 3339."""
    found = _RFC_3339.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("needs an RFC 3339 instant with its offset, such as 2026-11-23T08:00:00Z")
    day, time, fraction, sign, offset = found.groups()
    zone = f"{sign.replace(' ', '+')}{offset}" if sign else "+00:00"
    try:
        return datetime.fromisoformat(f"{day}T{time}.{(fraction or '0')[:6].ljust(6, '0')}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is not a valid date and time") from None


# Goes after the Query or Header of an integer, so that the document has their bounds.
DIGITS = BeforeValidator(require_digits)
Instant = Annotated[
    datetime, BeforeValidator(parse_instant), WithJsonSchema({"type": "string", "format": "date-time"})
]  # fmt: skip

JobFilter = Annotated[UUID | None, Query(description="Only of this job.")]
ModelFilter = Annotated[str | None, Query(min_length=1, description="Only of this model.")]
RegionFilter = Annotated[RegionName | None, Query(description="Only of this region.")]
CreatedAfter = Annotated[Instant | None, Query(description="Only items created after this instant (exclusive).")]
CreatedBefore = Annotated[Instant | None, Query(description="Only items created before this instant (exclusive).")]
