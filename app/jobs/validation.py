"""Validates the request for a new job, and reports all its faults together before anything is written."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit
from uuid import UUID

import orjson

from app.catalogue import RegionName, ValidatedJob, validate_job
from app.errors import Fault, InvalidRequest, and_more, json_pointer
from app.jobs.schemas import JobRequest
from app.queue.creation import NewJob
from app.urls import FILE_URL, WEBHOOK_URL, UrlKind, encode_url, find_control_character
from app.webhooks.addresses import Networks, is_permitted, is_permitted_port, literal_address

MAX_PAIRS = 16
MAX_KEY_LENGTH = 64
MAX_VALUE_LENGTH = 512
# 10,000 invalid URLs are usually one mistake. The first ones are reported one by one, the others are counted.
MAX_URL_FAULTS = 20


def validate_new_job(
    request: JobRequest,
    *,
    client_id: UUID,
    idempotency_key: str | None,
    served: Sequence[RegionName],
    client_name: str | None = None,
    has_budget: bool = False,
    webhook_networks: Networks = (),
) -> NewJob:
    """Raises UnknownModel, ModelNotInRegion, RegionNotServed or InvalidRequest, each with all faults of the request."""
    faults: list[Fault] = []
    urls = _encode_file_urls(request.file_urls, faults)
    faults.extend(_metadata_faults(request.metadata))
    webhook_url = request.webhook_url
    if webhook_url is not None:
        webhook_url = _encode_webhook_url(webhook_url, webhook_networks, faults)
    validated = _validate(request, served, faults)
    return NewJob(
        client_id=client_id,
        validated=validated,
        requested_region=request.region,
        urls=urls,
        metadata=request.metadata,
        webhook_url=webhook_url,
        idempotency_key=idempotency_key,
        request_sha256=_fingerprint(request, validated, urls, webhook_url) if idempotency_key else None,
        client_name=client_name,
        has_budget=has_budget,
        reuse=request.reuse,
    )


def _validate(request: JobRequest, served: Sequence[RegionName], faults: Sequence[Fault]) -> ValidatedJob:
    """Validates against the catalogue. Its errors include the `faults` that were found before."""
    try:
        validated = validate_job(
            model=request.model, region=request.region, parameters=request.parameters, served=served
        )  # fmt: skip
    except InvalidRequest as error:
        found = [*error.faults, *faults]
        raise type(error)(f"{error.detail}{and_more(found)}.", faults=found) from None
    if faults:
        raise InvalidRequest.of(faults)
    return validated


def _encode_file_urls(urls: Sequence[str], faults: list[Fault]) -> list[str]:
    found: list[Fault] = []
    encoded = [_encode(url, f"/file_urls/{index}", FILE_URL, found) for index, url in enumerate(urls)]
    faults.extend(found[:MAX_URL_FAULTS])
    if len(found) > MAX_URL_FAULTS:
        faults.append(Fault("/file_urls", f"{len(found) - MAX_URL_FAULTS:,} more of its URLs are not valid"))
    return encoded


def _encode_webhook_url(url: str, allowed: Networks, faults: list[Fault]) -> str:
    """Refuses a forbidden address or port in the URL itself. The addresses of a name are checked at each delivery."""
    found: list[Fault] = []
    encoded = _encode(url, "/webhook_url", WEBHOOK_URL, found)
    if found:
        faults.extend(found)
        return encoded
    parts = urlsplit(encoded)
    if parts.port is not None and not is_permitted_port(parts.port):
        detail = f"has the port {parts.port}; webhooks may reach the ports 80, 443, and 1024 and above"
        found.append(Fault("/webhook_url", detail))
    address = literal_address(parts.hostname or "")
    if address and not is_permitted(address, allowed):
        detail = "has an address that webhooks may not reach; use a public address, or ask the operator to add its"
        found.append(Fault("/webhook_url", f"{detail} network to WEBHOOK_ALLOWED_NETWORKS"))
    faults.extend(found)
    return encoded


def _encode(url: str, pointer: str, kind: UrlKind, faults: list[Fault]) -> str:
    try:
        return encode_url(url, kind)
    except ValueError as error:
        faults.append(Fault(pointer, str(error)))
        return url


def _metadata_faults(metadata: Mapping[str, str]) -> Iterator[Fault]:
    if len(metadata) > MAX_PAIRS:
        yield Fault("/metadata", f"has {len(metadata)} pairs; at most {MAX_PAIRS}")
        return
    for key, value in metadata.items():
        details = []
        if not 1 <= len(key) <= MAX_KEY_LENGTH:
            details.append(f"has a key of {len(key)} characters; 1 to {MAX_KEY_LENGTH} are allowed")
        if len(value) > MAX_VALUE_LENGTH:
            details.append(f"has a value of {len(value)} characters; at most {MAX_VALUE_LENGTH}")
        if control := find_control_character(key + value):
            details.append(f"holds the control character {control}; remove it")
        for detail in details:
            yield Fault(json_pointer("/metadata", key[:MAX_KEY_LENGTH]), detail)


def _fingerprint(request: JobRequest, validated: ValidatedJob, urls: Sequence[str], webhook_url: str | None) -> bytes:
    """Equal for bodies with the same meaning. `auto` stays `auto`, because the region that it picks may change."""
    meaning = [urls, validated.model.id, request.region, validated.parameters, request.metadata, webhook_url]
    if request.reuse:
        meaning.append("reuse")
    return hashlib.sha256(orjson.dumps(meaning, option=orjson.OPT_SORT_KEYS)).digest()
