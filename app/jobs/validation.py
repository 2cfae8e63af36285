"""From the body of a new job to what is stored: all that is wrong with it is found before anything is written."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

import orjson

from app.catalogue import RegionName, ValidatedJob, validate_job
from app.errors import Fault, InvalidRequest
from app.jobs.schemas import JobRequest
from app.queue.creation import NewJob
from app.urls import FILE_URL, WEBHOOK_URL, UrlKind, encode_url, find_control_character

MAX_PAIRS = 16
MAX_KEY_LENGTH = 64
MAX_VALUE_LENGTH = 512
# Ten thousand bad URLs are one mistake; nobody reads past the first few.
MAX_URL_FAULTS = 20


def validate_new_job(
    request: JobRequest, *, client_id: UUID, idempotency_key: str | None, served: Sequence[RegionName]
) -> NewJob:
    """Raises UnknownModel, ModelNotInRegion, RegionNotServed or InvalidRequest, each with all faults there are."""
    faults: list[Fault] = []
    urls = _encode_all(request.file_urls, faults)
    faults.extend(_metadata_faults(request.metadata))
    webhook_url = request.webhook_url
    if webhook_url is not None:
        webhook_url = _encode(webhook_url, "/webhook_url", WEBHOOK_URL, faults)
    asked = _validate(request, served, faults)
    return NewJob(
        client_id=client_id,
        asked=asked,
        requested_region=request.region,
        urls=urls,
        metadata=request.metadata,
        webhook_url=webhook_url,
        idempotency_key=idempotency_key,
        request_sha256=_fingerprint(request, asked, urls, webhook_url) if idempotency_key else None,
    )


def _validate(request: JobRequest, served: Sequence[RegionName], faults: Sequence[Fault]) -> ValidatedJob:
    """The catalogue's verdict, together with the faults found before it."""
    try:
        asked = validate_job(
            model=request.model, region=request.region, parameters=request.parameters, served=served
        )  # fmt: skip
    except InvalidRequest as error:
        more = f" (and {len(faults)} more elsewhere)" if faults else ""
        raise type(error)(f"{error.detail}{more}", faults=[*error.faults, *faults]) from None
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise InvalidRequest(f"{faults[0].pointer} {faults[0].detail}{more}.", faults=faults)
    return asked


def _encode_all(urls: Sequence[str], faults: list[Fault]) -> list[str]:
    found: list[Fault] = []
    encoded = [_encode(url, f"/file_urls/{index}", FILE_URL, found) for index, url in enumerate(urls)]
    faults.extend(found[:MAX_URL_FAULTS])
    if len(found) > MAX_URL_FAULTS:
        faults.append(Fault("/file_urls", f"{len(found) - MAX_URL_FAULTS:,} more of its URLs are not valid"))
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
        pointer = "/metadata/" + key[:MAX_KEY_LENGTH].replace("~", "~0").replace("/", "~1")
        if not 1 <= len(key) <= MAX_KEY_LENGTH:
            yield Fault(pointer, f"has a key of {len(key)} characters; 1 to {MAX_KEY_LENGTH} are possible")
        if len(value) > MAX_VALUE_LENGTH:
            yield Fault(pointer, f"has a value of {len(value)} characters; at most {MAX_VALUE_LENGTH}")
        if control := find_control_character(key + value):
            yield Fault(pointer, f"holds the control character {control}; remove it")


def _fingerprint(request: JobRequest, asked: ValidatedJob, urls: Sequence[str], webhook_url: str | None) -> bytes:
    """Equal for bodies that mean the same, however they are written. `auto` stays `auto`: what it picks may change."""
    meaning = [urls, asked.model.id, request.region, asked.parameters, request.metadata, webhook_url]
    return hashlib.sha256(orjson.dumps(meaning, option=orjson.OPT_SORT_KEYS)).digest()
