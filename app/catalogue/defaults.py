"""Defaults that model families share: formats, limits and retirement dates.

Source: the feature table of the founding document.
"""

from datetime import date
from decimal import Decimal

from app.catalogue.model import Deprecation, RegionalPrice, RegionName


def codes(text: str) -> tuple[str, ...]:
    """The codes in `text`, which are separated by blanks."""
    return tuple(text.split())


FORMATS = codes("aac amr avi flac flv m4a mkv mov mp3 mp4 mpeg ogg opus wav webm wma wmv")
MAX_FILE_BYTES = 2 * 1024**3
MAX_DURATION_S = 12 * 60 * 60
MAX_FILES_PER_TASK = 100
QUERY_RPS = 20.0

# The date in the vendor's retirement table of 2026. It is unconfirmed that the models were retired.
_RETIRES_AT = date(2026, 10, 10)


def replaced_by(model_id: str) -> Deprecation:
    """The announced retirement with `model_id` as the replacement."""
    return Deprecation(_RETIRES_AT, model_id)


def cny(**prices: str) -> dict[RegionName, RegionalPrice]:
    """Prices in yuan per second: `cny(beijing="0.00022")`."""
    regions: tuple[RegionName, ...] = ("beijing", "singapore")
    return {region: RegionalPrice(Decimal(prices[region])) for region in regions if region in prices}
