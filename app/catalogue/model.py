"""The types of the catalogue: models, parameters and prices, without data and behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Literal, get_args

from app.catalogue.schema import ValueSchema

RegionName = Literal["beijing", "singapore"]
REGIONS: tuple[RegionName, ...] = get_args(RegionName)

# `optional`: a parameter of the job decides. The default of the parameter applies without it.
Availability = Literal["always", "optional", "no"]
Feature = Literal[
    "emotion",
    "timestamps",
    "punctuation",
    "hot_words",
    "itn",
    "singing",
    "noise_rejection",
    "sensitive_words",
    "diarization",
    "filler_removal",
    "vad",
]
# The content of `input` in a submit: a list of URLs, or one URL, whose result is `output.result`.
InputStyle = Literal["file_urls", "file_url"]
Default = bool | tuple[int | str, ...] | None


class Family(StrEnum):
    """Models of one family have the same result format and almost the same parameters."""

    FUN_ASR = "fun-asr"
    PARAFORMER = "paraformer"
    SENSEVOICE = "sensevoice"
    QWEN3_ASR = "qwen3-asr"


@dataclass(frozen=True, slots=True)
class RegionalPrice:
    """The price of a model in one region, per second of billed speech and channel."""

    price_per_second: Decimal
    currency: Literal["CNY"] = "CNY"


@dataclass(frozen=True, slots=True)
class SampleRates:
    """Accepted sample rates in Hz. None means no bound."""

    minimum_hz: int | None = None
    maximum_hz: int | None = None


@dataclass(frozen=True, slots=True)
class Deprecation:
    """An announced retirement. DashScope may serve the model for longer, so the gateway still accepts it."""

    retires_at: date
    replacement: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """A row of the founding document's table of recommendations."""

    scenario: str
    models: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """A parameter by its DashScope name. `default` is DashScope's value for an absent parameter, or None.

    With `json_text`, DashScope expects the value as a string of JSON. Clients may send a value or a string.
    """

    name: str
    schema: ValueSchema
    description: str
    default: Default = None
    json_text: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A model. Per account, `submit_rps` limits submits of this model and `query_rps` queries of all models.

    `alias_of` is the snapshot to which a stable name refers now. A `max_duration_s` of None means no limit.
    """

    id: str
    family: Family
    alias_of: str | None
    regions: Mapping[RegionName, RegionalPrice]
    languages: tuple[str, ...]
    dialects: str | None
    sample_rates: SampleRates
    formats: tuple[str, ...]
    max_file_bytes: int
    max_duration_s: int | None
    max_files_per_task: int
    submit_rps: float
    query_rps: float
    features: Mapping[Feature, Availability]
    parameters: tuple[Parameter, ...]
    deprecation: Deprecation | None
    scenarios: tuple[Scenario, ...]
    notes: tuple[str, ...]
    input_style: InputStyle = "file_urls"
