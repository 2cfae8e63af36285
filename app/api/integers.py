"""Integers in URLs and headers: digits and nothing else. pydantic alone reads `1_0`, `+10`, `10.0` and ` 10 ` as 10."""

import re
from typing import Any

from pydantic import BeforeValidator

_DIGITS = re.compile(r"-?[0-9]+")


def plain_digits(value: Any) -> Any:
    """The value, for pydantic to read. Raises ValueError."""
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise ValueError("needs to be an integer")
    return value


# Stands after what else is asked of the number, so that the document has that.
DIGITS = BeforeValidator(plain_digits)
