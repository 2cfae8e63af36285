"""The types of the catalogue: models, parameters and prices. The data is in the modules of the families."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal, get_args

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
Currency = Literal["CNY", "USD"]
Unit = Literal["seconds", "input_tokens", "output_tokens"]
Default = bool | tuple[int | str, ...] | None


class Family(StrEnum):
    """Models of one family have the same result format and almost the same parameters."""

    FUN_ASR = "fun-asr"
    PARAFORMER = "paraformer"
    SENSEVOICE = "sensevoice"
    QWEN3_ASR = "qwen3-asr"


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


def describe(model: Model) -> dict[str, Any]:
    """The JSON of a model in `GET /v1/models`.

    Sizes are in bytes, durations in seconds, rates per second. Prices are decimal strings. Null means no limit.
    """
    return {
        "id": model.id,
        "family": model.family.value,
        "alias_of": model.alias_of,
        "regions": [
            {"region": region, "price_per_second": f"{price.price_per_second:f}", "currency": price.currency}
            for region, price in model.regions.items()
        ],
        "languages": list(model.languages),
        "dialects": model.dialects,
        "sample_rates": {
            "minimum_hz": model.sample_rates.minimum_hz,
            "maximum_hz": model.sample_rates.maximum_hz,
        },
        "formats": list(model.formats),
        "limits": {
            "max_file_bytes": model.max_file_bytes,
            "max_duration_s": model.max_duration_s,
            "max_files_per_task": model.max_files_per_task,
        },
        "rate_limits": {"submit_rps": round(model.submit_rps, 3), "query_rps": model.query_rps},
        "features": dict(model.features),
        "parameters": [_describe_parameter(parameter) for parameter in model.parameters],
        "deprecation": model.deprecation
        and {
            "retires_at": model.deprecation.retires_at.isoformat(),
            "replacement": model.deprecation.replacement,
        },
        "scenarios": [{"scenario": row.scenario, "reason": row.reason} for row in model.scenarios],
        "notes": list(model.notes),
    }


def _describe_parameter(parameter: Parameter) -> dict[str, Any]:
    """For arrays, `minimum`, `maximum`, `values` and `max_length` apply to the elements."""
    schema = parameter.schema
    leaf = schema.items or schema
    default = parameter.default
    return {
        "name": parameter.name,
        "type": schema.type,
        "items": schema.items.type if schema.items else None,
        "default": list(default) if isinstance(default, tuple) else default,
        "minimum": leaf.minimum,
        "maximum": leaf.maximum,
        "values": list(leaf.values) or None,
        "max_length": leaf.max_length,
        "max_items": schema.max_items,
        "description": parameter.description,
    }
