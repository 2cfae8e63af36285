"""Instants in query strings: RFC 3339 and nothing else, as instants in UTC."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

# An unescaped `+` of an offset arrives as a blank; nothing else in an instant can be one.
_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d+))?(?:[Zz]|([+ -])(\d\d:\d\d))", re.ASCII)


def parse_instant(value: Any) -> Any:
    """The instant in UTC; digits after microseconds are dropped. Raises ValueError."""
    found = _RFC_3339.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("needs an RFC 3339 instant with its offset, such as 2026-11-23T08:00:00Z")
    day, time, fraction, sign, offset = found.groups()
    zone = f"{sign.replace(' ', '+')}{offset}" if sign else "+00:00"
    try:
        return datetime.fromisoformat(f"{day}T{time}.{(fraction or '0')[:6].ljust(6, '0')}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is no instant of the calendar") from None


Instant = Annotated[
    datetime, BeforeValidator(parse_instant), WithJsonSchema({"type": "string", "format": "date-time"})
]  # fmt: skip
