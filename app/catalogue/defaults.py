"""Defaults that model families share: formats, limits and retirement dates.

Source: the feature table of the founding document.
"""

from datetime import date
from decimal import Decimal

from app.catalogue.model import Access, Deprecation, RegionalPrice, RegionName


def codes(text: str) -> tuple[str, ...]:
    """The codes in `text`, which are separated by blanks."""
    return tuple(text.split())


FORMATS = codes("aac amr avi flac flv m4a mkv mov mp3 mp4 mpeg ogg opus wav webm wma wmv")
MAX_FILE_BYTES = 2 * 1024**3
MAX_DURATION_S = 12 * 60 * 60
MAX_FILES_PER_TASK = 100
QUERY_RPS = 20.0

SDK_ACCESS: tuple[Access, ...] = ("rest", "python", "java")
ALL_ACCESS: tuple[Access, ...] = (*SDK_ACCESS, "android", "ios")

# The date of the founding document.
SOURCE_DATE = date(2026, 1, 27)
# The date in the vendor's retirement table of 2026. It is unconfirmed that the models were retired.
_RETIRES_AT = date(2026, 10, 10)
ANNOUNCED_NOTE = (
    "DashScope's retirement table of 2026 names this date. Whether the model was retired is not confirmed, "
    "so the gateway does not refuse it."
)


def replaced_by(
    model_id: str, *, deprecated_at: date = _RETIRES_AT, note: str = ANNOUNCED_NOTE, note_zh: str | None = None
) -> Deprecation:
    """The announced retirement with `model_id` as the replacement."""
    return Deprecation(deprecated_at, _RETIRES_AT, model_id, note, note_zh)


def cny(**prices: str) -> dict[RegionName, RegionalPrice]:
    """Prices in yuan per second: `cny(beijing="0.00022")`."""
    regions: tuple[RegionName, ...] = ("beijing", "singapore")
    return {region: RegionalPrice(Decimal(prices[region])) for region in regions if region in prices}
