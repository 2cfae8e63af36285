"""The types of the catalogue: models, parameters and prices. The data is in the modules of the families."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Literal, get_args

from app.catalogue.schema import ValueSchema

RegionName = Literal["beijing", "singapore"]
REGIONS: tuple[RegionName, ...] = get_args(RegionName)

# `optional`: can be switched, with a parameter of the job if DashScope documents one.
FeatureAvailability = Literal["always", "optional", "no"]
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
Currency = Literal["CNY", "USD"]
Version = Literal["stable", "snapshot"]
Switch = Literal["on", "off"]
Unit = Literal["seconds", "input_tokens", "output_tokens"]
# The ways to call the model at DashScope: HTTP, or an SDK.
Access = Literal["rest", "python", "java", "android", "ios"]
Default = bool | tuple[int | str, ...] | None
_SNAPSHOT = re.compile(r"\d{4}-\d{2}-\d{2}$")


class Family(StrEnum):
    """Models of one family have the same result format and almost the same parameters."""

    FUN_ASR = "fun-asr"
    PARAFORMER = "paraformer"
    SENSEVOICE = "sensevoice"
    QWEN3_ASR = "qwen3-asr"
    QWEN_AUDIO = "qwen-audio"


@dataclass(frozen=True, slots=True)
class RegionalPrice:
    """The price of a model in one region: per second of billed speech and channel, or per token."""

    price_per_second: Decimal | None = None
    price_per_million_input_tokens: Decimal | None = None
    price_per_million_output_tokens: Decimal | None = None
    currency: Currency = "CNY"

    @property
    def units(self) -> tuple[Unit, ...]:
        """The units that are billed."""
        return ("seconds",) if self.price_per_second is not None else ("input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class SampleRates:
    """Accepted sample rates in Hz. None means no bound."""

    minimum_hz: int | None = None
    maximum_hz: int | None = None


@dataclass(frozen=True, slots=True)
class Deprecation:
    """An announced retirement. DashScope may serve the model for longer, so the gateway still accepts it.

    `deprecated_at` is when it was certainly announced. `note_zh` are the words of the founding document, if it has any.
    """

    deprecated_at: date
    retires_at: date
    replacement: str
    note: str
    note_zh: str | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """A row of the founding document's table of recommendations."""

    id: str
    scenario: str
    scenario_zh: str
    models: tuple[str, ...]
    reason: str
    reason_zh: str


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

    `alias_of` is the snapshot to which a stable name refers now. A `max_duration_s` or `max_channels` of None means
    no limit. `on_by_default` are the optional features that are on without a parameter. `emotions` and `events` are the
    documented values, to which DashScope may add.
    """

    id: str
    family: Family
    alias_of: str | None
    regions: Mapping[RegionName, RegionalPrice]
    languages: tuple[str, ...]
    dialects: str | None
    dialects_zh: str | None
    sample_rates: SampleRates
    formats: tuple[str, ...]
    max_file_bytes: int
    max_duration_s: int | None
    max_files_per_task: int
    submit_rps: float
    query_rps: float
    features: Mapping[Feature, FeatureAvailability]
    parameters: tuple[Parameter, ...]
    access: tuple[Access, ...]
    links: Mapping[str, str]
    deprecation: Deprecation | None
    scenarios: tuple[Scenario, ...]
    notes: tuple[str, ...]
    input_style: InputStyle = "file_urls"
    max_channels: int | None = None
    on_by_default: tuple[Feature, ...] = ()
    emotions: tuple[str, ...] = ()
    events: tuple[str, ...] = ()

    @property
    def version(self) -> Version:
        """A snapshot has its date in its id."""
        return "snapshot" if snapshot_date(self.id) else "stable"


def snapshot_date(model_id: str) -> date | None:
    """The date at the end of the id of a snapshot. None for other ids."""
    found = _SNAPSHOT.search(model_id)
    return date.fromisoformat(found[0]) if found else None
