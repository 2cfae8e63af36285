"""What a caller can read, by its headers Accept and Accept-Encoding (RFC 9110, sections 12.5.1 and 12.5.3)."""

import re
from collections.abc import Iterator, Sequence

from fastapi import Request

_CODING = re.compile(
    r"(?:^|,)\s*(?:x-)?(gzip|identity|\*)\s*(?:;\s*q\s*=\s*(0(?:\.[0-9]*)?|1(?:\.0*)?)\s*)?(?=,|$)", re.IGNORECASE
)


def accepts(headers: Sequence[str], media_type: str) -> bool:
    """Whether the media type may be sent. The range that names it most exactly decides; no range at all allows all."""
    if not headers:
        return True
    ranges = list(_ranges(headers))
    kind = media_type.partition("/")[0]
    for wanted in (media_type, f"{kind}/*", "*/*"):
        weights = [weight for name, weight in ranges if name == wanted]
        if weights:
            return max(weights) > 0
    return not ranges


def accepts_gzip(request: Request) -> bool:
    """Whether gzip may be sent and the contents as they are would not be liked better. Who says nothing gets those."""
    header = ",".join(request.headers.getlist("accept-encoding"))
    weights = {found[1].lower(): float(found[2] or 1) for found in _CODING.finditer(header)}
    # `*` is for what is not named.
    weight = weights.get("gzip", weights.get("*", 0))
    return weight > 0 and weight >= weights.get("identity", 0)


def _ranges(headers: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Each media range and its weight. What is no media range is left out: a preference is no order."""
    for element in ",".join(headers).lower().split(","):
        name, *parameters = (part.strip() for part in element.split(";"))
        if "/" in name:
            yield name, _weight(parameters)


def _weight(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 1
    return 1
