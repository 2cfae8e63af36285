"""Content negotiation: the headers Accept and Accept-Encoding (RFC 9110, sections 12.5.1 and 12.5.3)."""

import re
from collections.abc import Sequence

from fastapi import Request

_CODING = re.compile(
    r"(?:^|,)\s*(?:x-)?(gzip|identity|\*)\s*(?:;\s*q\s*=\s*(0(?:\.[0-9]*)?|1(?:\.0*)?)\s*)?(?=,|$)", re.IGNORECASE
)


def accepts(headers: Sequence[str], media_type: str) -> bool:
    """True if the Accept headers allow the media type. The most specific range decides; no range allows every type."""
    if not headers:
        return True
    elements = [[part.strip() for part in element.split(";")] for element in ",".join(headers).lower().split(",")]
    # Elements that are not media ranges are ignored.
    ranges = [(name, _weight(parameters)) for name, *parameters in elements if "/" in name]
    kind = media_type.partition("/")[0]
    for candidate in (media_type, f"{kind}/*", "*/*"):
        weights = [weight for name, weight in ranges if name == candidate]
        if weights:
            return max(weights) > 0
    return not ranges


def accepts_gzip(request: Request) -> bool:
    """True if gzip is allowed and not less preferred than no coding. Without Accept-Encoding there is no coding."""
    header = ",".join(request.headers.getlist("accept-encoding"))
    weights = {found[1].lower(): float(found[2] or 1) for found in _CODING.finditer(header)}
    # `*` stands for the codings that are not named.
    weight = weights.get("gzip", weights.get("*", 0))
    return weight > 0 and weight >= weights.get("identity", 0)


def _weight(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 1
    return 1
