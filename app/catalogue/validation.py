"""Is this job possible, and in what region? Pure; every refusal names the place and what would be right."""

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
from app.catalogue.schema import json_pointer, validate
from app.errors import Fault, InvalidRequest, ModelNotInRegion, RegionNotServed
from app.json_values import has_more_values

# More places than anyone mends at once; a hostile body must not cost time and an endless answer.
_MAX_FAULTS = 100
_REMEMBERED_BYTES = 1000
# Of a parameter that is JSON in a string: twice 10,000 words, and what is around them.
_MAX_VALUES = 25_000


@dataclass(frozen=True, slots=True)
class ValidatedJob:
    """`parameters` are canonical: jobs that mean the same have equal ones, so their files may share a task.

    It may be shared by jobs: nobody changes it.
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
    """`served`: regions with a key, the default region first.

    Raises UnknownModel, ModelNotInRegion, RegionNotServed, or InvalidRequest with the faults of all parameters.
    What was found valid is remembered: clients ask for the same again and again.
    """
    try:
        written = orjson.dumps(parameters)
    except TypeError:  # a lone surrogate, or an integer of more than 64 bits: a fault, which is told below
        return _validate(model, region, parameters, tuple(served))
    if len(written) > _REMEMBERED_BYTES:
        return _validate(model, region, parameters, tuple(served))
    return _validate_again(model, region, written, tuple(served))


@lru_cache(maxsize=1024)
def _validate_again(
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
    """The region asked for, or under `auto` the first of `served` that has the model."""
    if region == "auto":
        for candidate in served:
            if candidate in model.regions:
                return candidate
        raise _not_served(f"{model.id} is offered in {_listed(model.regions)}", model.regions, served)
    if region not in model.regions:
        detail = f"{model.id} is not offered in {region}; it is in {_listed(model.regions)}"
        raise ModelNotInRegion(detail, faults=[Fault("/region", detail)])
    if region not in served:
        raise _not_served(f"The region is {region}", [region], served)
    return region


def validate_parameters(model: Model, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The canonical form: names sorted, nothing dropped, no default filled in. Raises InvalidRequest."""
    accepted = {parameter.name: parameter for parameter in model.parameters}
    faults = list(islice(_parameter_faults(model, accepted, parameters), _MAX_FAULTS))
    if faults:
        raise InvalidRequest(_summary(faults), faults=faults)
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
        for fault in validate(parameter.shape, value, pointer):
            yield Fault(fault.pointer, fault.detail + _supporters(parameter, value, fault.pointer))
        return
    if has_more_values(value.encode(errors="replace"), _MAX_VALUES):
        yield Fault(pointer, f"holds more than {_MAX_VALUES:,} values in its JSON text; no parameter takes as many")
        return
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        yield Fault(pointer, "needs an object, or a string that holds one as JSON; this string is no JSON")
        return
    # A pointer cannot lead into a string, so the rest of the way stands in the sentence.
    for fault in validate(parameter.shape, parsed, ""):
        yield Fault(pointer, f"in its JSON text, {fault.pointer or 'the whole'}: {fault.detail}")


def _supporters(parameter: Parameter, value: Any, pointer: str) -> str:
    """Which models take the refused value, where it is one of a list of words that differs between models."""
    index = pointer.rpartition("/")[2]
    item = value[int(index)] if isinstance(value, list) and index.isdecimal() else value
    if item in _words(parameter):
        return ""
    models = [
        model.id
        for model in MODELS.values()
        if any(item in _words(p) for p in model.parameters if p.name == parameter.name)
    ]
    return f"; supported by {', '.join(models)}" if models else ""


def _words(parameter: Parameter) -> tuple[str, ...]:
    return (parameter.shape.items or parameter.shape).values


def _not_accepted(model: Model, name: str) -> str:
    supporting = [m.id for m in MODELS.values() if any(p.name == name for p in m.parameters)]
    if supporting:
        return f"is not supported by {model.id}; leave it out or use one of {', '.join(supporting)}"
    names = [parameter.name for parameter in model.parameters]
    close = get_close_matches(name[:100], names, n=1, cutoff=0.7)
    hint = f"did you mean {close[0]}?" if close else f"{model.id} accepts {', '.join(names)}"
    return f"is not known to any model; {hint}"


def _combination_faults(accepted: Mapping[str, Parameter], parameters: Mapping[str, Any]) -> Iterator[Fault]:
    counted = "speaker_count" in accepted and "speaker_count" in parameters
    if counted and parameters.get("diarization_enabled") is not True:
        yield Fault("/parameters/speaker_count", "needs diarization_enabled to be true as well")
    if "corpus" in accepted and "corpus" in parameters and "text" in parameters:
        yield Fault("/parameters/text", "says the same as corpus.text; give one of the two")


def _not_served(
    problem: str, wanted: Mapping[RegionName, Any] | Sequence[RegionName], served: Sequence[RegionName]
) -> RegionNotServed:
    variables = " or ".join(f"DASHSCOPE_{region.upper()}_API_KEY" for region in wanted)
    have = f"it serves {_listed(served)}" if served else "it serves no region"
    detail = f"{problem}, for which this gateway has no key: {have}; {variables} would have to be set"
    return RegionNotServed(detail, faults=[Fault("/region", detail)])


def _listed(regions: Mapping[RegionName, Any] | Sequence[RegionName]) -> str:
    return " and ".join(regions)


def _summary(faults: Sequence[Fault]) -> str:
    if len(faults) > 1:
        return f"{len(faults)} places in the parameters are wrong"
    return f"{faults[0].pointer} {faults[0].detail}"
