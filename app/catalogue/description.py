"""The JSON of a model in `GET /v1/models`."""

from typing import Any

from app.catalogue.model import Model, Parameter


def describe(model: Model) -> dict[str, Any]:
    """Sizes are in bytes, durations in seconds, rates per second. Prices are decimal strings. Null means no limit."""
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
