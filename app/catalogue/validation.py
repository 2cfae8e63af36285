"""Validates jobs against the catalogue and selects their region. Pure.

Every error names the field, its fault and a valid value.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
from typing import Any, Literal

import orjson

from app.catalogue.model import Model, Parameter, RegionName
from app.catalogue.parameters import canonical
from app.catalogue.registry import MODELS, find_model
from app.catalogue.schema import validate
from app.errors import Fault, InvalidRequest, ModelNotInRegion, RegionNotServed, json_pointer
from app.json_values import has_more_values

# Limits the time and the response of a body with many faults.
_MAX_FAULTS = 100
# Hot words may have this weight instead of 1 to 5, but not many of them.
_STRONGEST_WEIGHT = 50
_MAX_STRONGEST_WORDS = 50
# Results of larger parameters are not cached.
_MAX_CACHED_BYTES = 1000
# Most values in a parameter that is a string of JSON: two lists of 10,000 words, and their objects.
_MAX_VALUES = 25_000


@dataclass(frozen=True, slots=True)
class ValidatedJob:
    """A valid job with canonical `parameters`: files whose parameters have the same meaning can share a task.

    Several jobs may share one instance. Do not change `parameters`.
    """

    model: Model
    region: RegionName
    parameters: Mapping[str, Any]


def validate_job(
    *,
    model: str,
    region: Literal["auto"] | RegionName,
    parameters: Mapping[str, Any],
    served: Sequence[RegionName],
) -> ValidatedJob:
    """Validate a job. `served` are the regions with a key, the default region first.

    Raises UnknownModel, ModelNotInRegion, RegionNotServed, or InvalidRequest with the faults of all parameters.
    Valid results are cached, since clients often send the same parameters.
    """
    try:
        encoded = orjson.dumps(parameters)
    except TypeError:  # a lone surrogate or an integer of more than 64 bits, which is a fault
        return _validate(model, region, parameters, tuple(served))
    if len(encoded) > _MAX_CACHED_BYTES:
        return _validate(model, region, parameters, tuple(served))
    return _validate_cached(model, region, encoded, tuple(served))


@lru_cache(maxsize=1024)
def _validate_cached(
    model: str, region: Literal["auto"] | RegionName, parameters: bytes, served: tuple[RegionName, ...]
) -> ValidatedJob:
    return _validate(model, region, orjson.loads(parameters), served)


def _validate(
    model: str,
    region: Literal["auto"] | RegionName,
    parameters: Mapping[str, Any],
    served: tuple[RegionName, ...],
) -> ValidatedJob:
    found = find_model(model)
    return ValidatedJob(
        model=found,
        region=choose_region(found, region, served),
        parameters=validate_parameters(found, parameters),
    )


def choose_region(model: Model, region: Literal["auto"] | RegionName, served: Sequence[RegionName]) -> RegionName:
    """The requested region, or for `auto` the first of `served` that offers the model."""
    if region == "auto":
        for candidate in served:
            if candidate in model.regions:
                return candidate
        raise _not_served(f"{model.id} is offered in {_listed(model.regions)}", model.regions, served)
    if region not in model.regions:
        detail = f"{model.id} is not offered in {region}; use {_listed(model.regions)}"
        raise ModelNotInRegion(detail, faults=[Fault("/region", detail)])
    if region not in served:
        raise _not_served(f"The region is {region}", [region], served)
    return region


def order_regions(model: Model, region: Literal["auto"] | RegionName, served: Sequence[RegionName]) -> list[RegionName]:
    """The regions that may be used, in order of preference: for `auto` all of `served` that offer the model.

    Raises as `choose_region`.
    """
    chosen = choose_region(model, region, served)
    return [each for each in served if each in model.regions] if region == "auto" else [chosen]


def validate_parameters(model: Model, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The canonical parameters, sorted by name, without added defaults. Raises InvalidRequest."""
    accepted = {parameter.name: parameter for parameter in model.parameters}
    faults = list(islice(_parameter_faults(model, accepted, parameters), _MAX_FAULTS))
    if faults:
        raise InvalidRequest(f"{faults[0].pointer} {faults[0].detail}", faults=faults)
    return {name: canonical(accepted[name], parameters[name]) for name in sorted(parameters)}


def _parameter_faults(
    model: Model, accepted: Mapping[str, Parameter], parameters: Mapping[str, Any]
) -> Iterator[Fault]:
    for name, value in parameters.items():
        if name in accepted:
            yield from _value_faults(accepted[name], value)
        else:
            yield Fault(json_pointer("/parameters", name), _not_accepted(model, name))
    yield from _combination_faults(accepted, parameters)


def _value_faults(parameter: Parameter, value: Any) -> Iterator[Fault]:
    pointer = json_pointer("/parameters", parameter.name)
    if not (parameter.json_text and isinstance(value, str)):
        for fault in validate(parameter.schema, value, pointer):
            yield Fault(fault.pointer, fault.detail + _models_supporting(parameter, value, fault.pointer))
        return
    if has_more_values(value.encode(errors="replace"), _MAX_VALUES):
        yield Fault(pointer, f"holds more than {_MAX_VALUES:,} JSON values; no parameter accepts so many")
        return
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        yield Fault(pointer, "needs an object or a string of JSON; this string is not JSON")
        return
    # A JSON pointer cannot point into a string, so the message contains the rest of the path.
    for fault in validate(parameter.schema, parsed, ""):
        yield Fault(pointer, f"in its JSON, {fault.pointer or 'the value'} {fault.detail}")


def _models_supporting(parameter: Parameter, value: Any, pointer: str) -> str:
    """Names the models that accept the refused value, if the allowed values differ between models."""
    index = pointer.rpartition("/")[2]
    item = value[int(index)] if isinstance(value, list) and index.isdecimal() else value
    if item in _allowed_values(parameter):
        return ""
    models = [
        model.id
        for model in MODELS.values()
        if any(item in _allowed_values(other) for other in model.parameters if other.name == parameter.name)
    ]
    return f"; supported by {', '.join(models)}" if models else ""


def _allowed_values(parameter: Parameter) -> tuple[str, ...]:
    return (parameter.schema.items or parameter.schema).values


def _not_accepted(model: Model, name: str) -> str:
    supporting = [m.id for m in MODELS.values() if any(p.name == name for p in m.parameters)]
    if supporting:
        return f"is not supported by {model.id}; leave it out or use one of {', '.join(supporting)}"
    names = [parameter.name for parameter in model.parameters]
    close = get_close_matches(name[:100], names, n=1, cutoff=0.7)
    hint = f"you may mean {close[0]}" if close else f"{model.id} accepts {', '.join(names)}"
    return f"is not known to any model; {hint}"


def _combination_faults(accepted: Mapping[str, Parameter], parameters: Mapping[str, Any]) -> Iterator[Fault]:
    counted = "speaker_count" in accepted and "speaker_count" in parameters
    if counted and parameters.get("diarization_enabled") is not True:
        yield Fault("/parameters/speaker_count", "requires diarization_enabled to be true")
    vocabulary = parameters.get("vocabulary") if "vocabulary" in accepted else None
    strongest = list(vocabulary.values()).count(_STRONGEST_WEIGHT) if isinstance(vocabulary, dict) else 0
    if strongest > _MAX_STRONGEST_WORDS:
        yield Fault("/parameters/vocabulary", f"gives {strongest} words the weight 50; at most 50 words can have it")
    if "corpus" in accepted and "corpus" in parameters and "text" in parameters:
        yield Fault("/parameters/text", "has the same meaning as corpus.text; use only one of the two")


def _not_served(
    problem: str, wanted: Mapping[RegionName, Any] | Sequence[RegionName], served: Sequence[RegionName]
) -> RegionNotServed:
    variables = " or ".join(f"DASHSCOPE_{region.upper()}_API_KEY" for region in wanted)
    available = f"it serves {_listed(served)}" if served else "it serves no region"
    detail = f"{problem}, for which this gateway has no key: {available}; the operator can set {variables}"
    return RegionNotServed(detail, faults=[Fault("/region", detail)])


def _listed(regions: Mapping[RegionName, Any] | Sequence[RegionName]) -> str:
    return " and ".join(regions)
