"""The words of the catalogue: what a model is, offers and accepts. No data and no behaviour here."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Literal, get_args

from app.catalogue.schema import ValueSchema

RegionName = Literal["beijing", "singapore"]
REGIONS: tuple[RegionName, ...] = get_args(RegionName)

# `optional`: the client decides by a parameter; what holds without it is the parameter's default.
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
# What `input` of a submit holds: a list of URLs, or one URL with its result under `output.result`.
InputStyle = Literal["file_urls", "file_url"]
Default = bool | tuple[int | str, ...] | None


class Family(StrEnum):
    """Models of one family share their result format and, but for details, their parameters."""

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
    """Accepted sample rates in Hz; a missing bound means none."""

    minimum_hz: int | None = None
    maximum_hz: int | None = None


@dataclass(frozen=True, slots=True)
class Deprecation:
    """An announced retirement. The upstream may answer longer than announced, so such a model stays usable."""

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
    """A parameter under its upstream name. `default` is what the upstream takes when it is absent; None: nothing.

    `json_text`: the upstream wants the value serialised into a string; clients may send either form.
    """

    name: str
    shape: ValueSchema
    description: str
    default: Default = None
    json_text: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """One model id. `submit_rps` counts submits of this model, `query_rps` queries of all models, per account.

    `alias_of` is the snapshot that a stable name equals now; `max_duration_s` None: no limit.
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
