"""Reads the body of a submit as DashScope reads it, and makes a new job of it. Source: protocol, section 2.

DashScope accepts more than `/v1/jobs` does, so only what certainly cannot work is refused. Parameters that the
catalogue does not accept are sent to DashScope as they are: it ignores them, or refuses the files of the job.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from app.api.request_body import check_json
from app.catalogue import Family, Model, RegionName, ValidatedJob, choose_region, find_model, validate_parameters
from app.clients.service import CurrentClient
from app.dashscope.file_urls import TEMPORARY_SCHEME
from app.dashscope_api.errors import Refused
from app.dashscope_api.route import RequestedRegion
from app.errors import InvalidRequest
from app.queue.creation import NewJob
from app.urls import MAX_URL_LENGTH, encode_url, find_control_character

MAX_FILES = 100
# DashScope's models have up to twelve. Bounds what a job shows, and the time for its parameters.
MAX_PARAMETERS = 100

# The other families take `file_url` and `file_urls` alike.
_ONLY_FILE_URLS = {Family.FUN_ASR, Family.PARAFORMER, Family.SENSEVOICE}


def new_job(body: bytes, *, client: CurrentClient, region: RequestedRegion, served: Sequence[RegionName]) -> NewJob:
    """Raises Refused, UnknownModel, ModelNotInRegion, RegionNotServed or InvalidRequest."""
    given = _parse(body)
    model = find_model(_model_id(given))
    inputs = given.get("input")
    if not inputs and not isinstance(inputs, dict):
        raise Refused(400, "BadRequest.EmptyInput", 'Required parameter "input" missing from request.')
    if not isinstance(inputs, dict):
        raise _invalid("input must be an object")
    given_urls = _file_urls(model, inputs)
    urls = [_encode(index, url) for index, url in enumerate(given_urls)]
    parameters = _parameters(model, given, inputs)
    return NewJob(
        client_id=client.id,
        client_name=client.name,
        has_budget=client.has_budget,
        validated=ValidatedJob(model, choose_region(model, region, served), parameters),
        requested_region=region,
        urls=urls,
        metadata={},
        webhook_url=None,
        idempotency_key=None,
        request_sha256=None,
        given_urls=[given_url if given_url != url else None for given_url, url in zip(given_urls, urls, strict=True)],
    )


def _parse(body: bytes) -> dict[str, Any]:
    """Raises Refused, or the errors of `check_json`."""
    check_json(body)
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise _invalid("Required body invalid, please check the request body format.")
    return given


def _model_id(given: Mapping[str, Any]) -> str:
    model_id = given.get("model")
    if not model_id:
        raise Refused(400, "BadRequest.EmptyModel", 'Required parameter "model" missing from request.')
    if not isinstance(model_id, str):
        raise _invalid("model must be a string")
    return model_id


def _file_urls(model: Model, inputs: Mapping[str, Any]) -> list[str]:
    urls, url = inputs.get("file_urls"), inputs.get("file_url")
    if url and (not urls or model.input_style == "file_url") and model.family not in _ONLY_FILE_URLS:
        urls = [url]
    if not isinstance(urls, list) or not urls or not all(isinstance(each, str) and each for each in urls):
        raise _invalid(f"input must contain {model.input_style}")
    if len(urls) > MAX_FILES:
        raise _invalid(f"input.file_urls has {len(urls):,} URLs; at most {MAX_FILES} are possible")
    return urls


def _encode(index: int, url: str) -> str:
    """The URL as it is sent to DashScope. The key of a file in temporary storage is sent as it is."""
    if url.startswith(TEMPORARY_SCHEME) and len(url) <= MAX_URL_LENGTH and not find_control_character(url):
        return url
    try:
        return encode_url(url)
    except ValueError as error:
        raise _invalid(f"input.file_urls[{index}] {error}") from None


def _parameters(model: Model, given: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that are sent, in canonical form where the catalogue accepts them. Without those that are null."""
    parameters = given.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise _invalid("parameters must be an object")
    if len(parameters) > MAX_PARAMETERS:
        raise _invalid(f"parameters has {len(parameters):,} fields; at most {MAX_PARAMETERS} are possible")
    found = {name: value for name, value in parameters.items() if value is not None}
    if phrase_id := _phrase_id(given.get("resources")):
        found["phrase_id"] = phrase_id
    if "context" in inputs and any(parameter.name == "context" for parameter in model.parameters):
        found["context"] = inputs["context"]
    _check_storable(found)
    return {name: _canonical(model, name, found[name]) for name in sorted(found)}


def _phrase_id(resources: Any) -> str | None:
    """The phrase list of the v1 models: the first resource of its type."""
    for resource in resources if isinstance(resources, list) else ():
        if isinstance(resource, dict) and resource.get("resource_type") == "asr_phrase":
            phrase_id = resource.get("resource_id")
            return phrase_id if isinstance(phrase_id, str) else None
    return None


def _canonical(model: Model, name: str, value: Any) -> Any:
    # Without this check the catalogue would look for similar names to suggest.
    if all(parameter.name != name for parameter in model.parameters):
        return value
    try:
        return validate_parameters(model, {name: value})[name]
    except InvalidRequest:
        return value


def _check_storable(parameters: Mapping[str, Any]) -> None:
    """Raises Refused for values that neither the database nor DashScope can read."""
    try:
        encoded = orjson.dumps(parameters)
    except TypeError:  # a lone surrogate, or an integer of more than 64 bits
        encoded = b"\\u0000"
    # Numbers that JSON does not have, such as 1e400, are encoded as null.
    if b"\\u0000" in encoded or orjson.loads(encoded) != parameters:
        raise _invalid("parameters has text or numbers that are not valid")


def _invalid(message: str) -> Refused:
    return Refused(400, "InvalidParameter", message)
