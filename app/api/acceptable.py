"""What a caller can read, by its Accept header (RFC 9110, section 12.5.1)."""

from collections.abc import Iterator, Sequence


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
