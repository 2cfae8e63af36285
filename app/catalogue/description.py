"""A model as plain JSON data, as `GET /v1/models` serves it."""

from typing import Any

from app.catalogue.model import Model, Parameter


def describe(model: Model) -> dict[str, Any]:
    """Sizes in bytes, spans in seconds, rates per second, prices as decimal strings; null means no limit."""
    return {
        "id": model.id,
        "family": model.family.value,
        "alias_of": model.alias_of,
        "regions": [
            {"region": region, "price_per_second": f"{offer.price_per_second:f}", "currency": offer.currency}
            for region, offer in model.regions.items()
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
    """For arrays, `minimum`, `maximum`, `values` and `max_length` are those of the elements."""
    shape = parameter.shape
    leaf = shape.items or shape
    default = parameter.default
    return {
        "name": parameter.name,
        "type": shape.type,
        "items": shape.items.type if shape.items else None,
        "default": list(default) if isinstance(default, tuple) else default,
        "minimum": leaf.minimum,
        "maximum": leaf.maximum,
        "values": list(leaf.values) or None,
        "max_length": leaf.max_length,
        "max_items": shape.max_items,
        "description": parameter.description,
    }
