"""The catalogue as JSON, and the search for models."""

from collections.abc import Iterator
from datetime import UTC, datetime, time
from typing import Any

from app.catalogue.defaults import SOURCE_DATE
from app.catalogue.model import (
    Family,
    Feature,
    Model,
    Parameter,
    RegionalPrice,
    RegionName,
    Scenario,
    Switch,
    snapshot_date,
)

OWNED_BY = "alibaba-cloud"

# The founding document lists these dialects under Chinese. ISO 639-3 has codes of their own for them.
_CHINESE_DIALECTS = {
    "yue": "Cantonese",
    "wuu": "Wu",
    "nan": "Minnan",
    "hak": "Hakka",
    "gan": "Gan",
    "hsn": "Xiang",
    "cjy": "Jin",
}


def matches(
    model: Model,
    *,
    region: RegionName | None = None,
    family: Family | None = None,
    language: str | None = None,
    feature: Feature | None = None,
    scenario: Scenario | None = None,
) -> bool:
    """Whether a model fits all criteria. None: any. An optional feature counts as one that the model has."""
    return (
        (region is None or region in model.regions)
        and (family is None or family is model.family)
        and (language is None or _understands(model, language))
        and (feature is None or model.features[feature] != "no")
        and (scenario is None or scenario in model.scenarios)
    )


def describe_openai(model: Model) -> dict[str, Any]:
    """The model in the form of OpenAI's API. `created`: its snapshot's date, or the date of the catalogue's source."""
    created = datetime.combine(snapshot_date(model.alias_of or model.id) or SOURCE_DATE, time(), UTC)
    return {"id": model.id, "object": "model", "created": int(created.timestamp()), "owned_by": OWNED_BY}


def describe(model: Model) -> dict[str, Any]:
    """The JSON of a model in `GET /v1/models`.

    Sizes are in bytes, durations in seconds, rates per second. Prices are decimal strings. Null means no limit.
    """
    return {
        **describe_openai(model),
        "family": model.family.value,
        "version": model.version,
        "alias_of": model.alias_of,
        "regions": [_describe_region(region, price) for region, price in model.regions.items()],
        "languages": list(model.languages),
        "dialects": model.dialects,
        "dialects_zh": model.dialects_zh,
        "sample_rates": {
            "minimum_hz": model.sample_rates.minimum_hz,
            "maximum_hz": model.sample_rates.maximum_hz,
        },
        "channels": "any" if model.max_channels is None else model.max_channels,
        "formats": list(model.formats),
        "limits": {
            "max_file_bytes": model.max_file_bytes,
            "max_duration_s": model.max_duration_s,
            "max_files_per_task": model.max_files_per_task,
        },
        "rate_limits": {"submit_rps": round(model.submit_rps, 3), "query_rps": model.query_rps},
        "features": dict(model.features),
        "feature_defaults": dict(_feature_defaults(model)),
        "emotions": list(model.emotions),
        "events": list(model.events),
        "parameters": [_describe_parameter(parameter) for parameter in model.parameters],
        "access": list(model.access),
        "deprecation": _describe_deprecation(model),
        "scenarios": [describe_scenario(row) for row in model.scenarios],
        "notes": list(model.notes),
        "links": dict(model.links),
    }


def describe_scenario(row: Scenario) -> dict[str, str]:
    return {
        "id": row.id,
        "scenario": row.scenario,
        "scenario_zh": row.scenario_zh,
        "reason": row.reason,
        "reason_zh": row.reason_zh,
    }


def _understands(model: Model, language: str) -> bool:
    """`zh-CN` is `zh`. A dialect of Chinese is understood if the model's description names it."""
    code = language.lower().replace("_", "-").partition("-")[0]
    dialect = _CHINESE_DIALECTS.get(code)
    return code in model.languages or (dialect is not None and dialect in (model.dialects or ""))


def _feature_defaults(model: Model) -> Iterator[tuple[Feature, Switch]]:
    for feature, availability in model.features.items():
        if availability == "optional":
            yield feature, "on" if feature in model.on_by_default else "off"


def _describe_region(region: RegionName, price: RegionalPrice) -> dict[str, Any]:
    return {
        "region": region,
        "units": list(price.units),
        "price_per_second": _decimal(price.price_per_second),
        "price_per_million_input_tokens": _decimal(price.price_per_million_input_tokens),
        "price_per_million_output_tokens": _decimal(price.price_per_million_output_tokens),
        "currency": price.currency,
    }


def _decimal(value: Any) -> str | None:
    return None if value is None else f"{value:f}"


def _describe_deprecation(model: Model) -> dict[str, Any] | None:
    if model.deprecation is None:
        return None
    return {
        "retires_at": model.deprecation.retires_at.isoformat(),
        "replacement": model.deprecation.replacement,
        "note": model.deprecation.note,
        "note_zh": model.deprecation.note_zh,
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
