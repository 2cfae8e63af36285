"""The form of a transcription: the fields of OpenAI's clients, and the job that they ask for.

Fields that are not known have no effect, as with OpenAI. An empty value counts as no value: several clients send
`language=` for a language that is to be detected.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Literal, cast, get_args
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request

from app.api.problems import MalformedBody
from app.api.request_body import require_no_coding
from app.catalogue import Model, find_model
from app.errors import BodyTooLarge, InvalidRequest
from app.uploads.form import MAX_FIELD_BYTES, MAX_FIELDS, Field, FileStart, FormEvent
from app.uploads.receiving import Fields
from app.uploads.uploader import DEFAULT_MODEL

ResponseFormat = Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"]
Granularity = Literal["word", "segment"]

DIARIZING_ALIAS = "gpt-4o-transcribe-diarize"
ALIASES = ("whisper-1", "gpt-transcribe", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", DIARIZING_ALIAS)
_SNAPSHOT = re.compile(r"-\d{4}-\d\d-\d\d\Z")
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
# A URL of 4,096 characters takes three times as many bytes if all of them are escaped.
_MAX_URLENCODED_BYTES = 4 * MAX_FIELD_BYTES
# Other names of formats that DashScope knows.
_EXTENSIONS = {".mpga": ".mp3", ".oga": ".ogg"}


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """`model` and `parameters` are those of the job. `url` is None if the form has a file.

    `language` is the one that the job asks for, or None.
    """

    model: str
    parameters: Mapping[str, Any]
    url: str | None
    language: str | None
    response_format: ResponseFormat
    granularities: frozenset[Granularity]
    stream: bool

    @property
    def source(self) -> str:
        """The field that names the recording."""
        return "file" if self.url is None else "url"


def parse_fields(fields: Fields, *, has_file: bool) -> TranscriptionRequest:
    """Raises UnknownModel or InvalidRequest. The parameters are checked by the catalogue later."""
    url = _last(fields, "url")
    if "file" in fields:
        raise InvalidRequest.at("/file", "is a text; send the audio as a part with a file name")
    if url is not None and has_file:
        raise InvalidRequest.at("/url", "is given together with a file; send one of the two")
    if url is None and not has_file:
        raise InvalidRequest.at("/file", "is missing; send the audio as the part `file`, or its URL as `url`")
    response_format = _choice(fields, "response_format", get_args(ResponseFormat), "json")
    granularities = frozenset(_granularities(fields))
    name = _SNAPSHOT.sub("", _last(fields, "model") or DEFAULT_MODEL)
    model = find_model(DEFAULT_MODEL if name in ALIASES else _last(fields, "model") or DEFAULT_MODEL)
    language = _language(fields, model)
    parameters = _parameters(fields, model, language)
    if response_format == "diarized_json" and not _accepts(model, "diarization_enabled"):
        raise InvalidRequest.at(
            "/response_format", f"is diarized_json, but {model.id} does not separate speakers; use fun-asr"
        )
    if response_format == "diarized_json" or name == DIARIZING_ALIAS:
        parameters["diarization_enabled"] = True
    if "word" in granularities and _accepts(model, "enable_words"):
        parameters["enable_words"] = True
    return TranscriptionRequest(
        model=model.id,
        parameters=parameters,
        url=url,
        language=language,
        response_format=cast("ResponseFormat", response_format),
        granularities=cast("frozenset[Granularity]", granularities),
        stream=_boolean(fields, "stream"),
    )


def fingerprint(fields: Fields, sha256: bytes) -> bytes:
    """Equal for repeated requests: the same fields in any order, and a file with the same bytes."""
    meaning = [sorted((name, *values) for name, values in fields.items()), sha256.hex()]
    return hashlib.sha256(orjson.dumps(meaning)).digest()


def is_urlencoded(request: Request) -> bool:
    """HTTP libraries send a form without a file as application/x-www-form-urlencoded."""
    media_type = request.headers.get("content-type", "").partition(";")[0]
    return media_type.strip().lower() == "application/x-www-form-urlencoded"


async def read_urlencoded(request: Request) -> AsyncIterator[Field]:
    """The fields in the order of the body. Raises UnsupportedMediaType, BodyTooLarge or MalformedBody."""
    require_no_coding(request)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_URLENCODED_BYTES:
            raise BodyTooLarge(f"A form without a file may have {_MAX_URLENCODED_BYTES // 1024} KiB.")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError as error:
        raise MalformedBody(f"The body is not a valid urlencoded form: {error}.") from None
    for name, value in pairs:
        yield Field(name, value)


async def read_until_file(form: AsyncIterator[FormEvent]) -> tuple[list[Field], FileStart | None]:
    """The fields before the file, and its head; None if the form has no file."""
    fields: list[Field] = []
    async for event in form:
        match event:
            case Field():
                fields.append(event)
            case FileStart():
                extension = PurePosixPath(event.file_name).suffix
                known = _EXTENSIONS.get(extension.lower(), extension)
                return fields, replace(event, file_name=f"{event.file_name.removesuffix(extension)}{known}")
    return fields, None


async def continue_form(
    fields: list[Field], file: FileStart, rest: AsyncIterator[FormEvent]
) -> AsyncIterator[FormEvent]:  # fmt: skip
    """The whole form again, after `read_until_file`."""
    for field in fields:
        yield field
    yield file
    async for event in rest:
        yield event


def _parameters(fields: Fields, model: Model, language: str | None) -> dict[str, Any]:
    """`language`, `languages[]` and `prompt` where the model has a parameter for them."""
    parameters: dict[str, Any] = {}
    hints = _hints(fields, model)
    if hints and _accepts(model, "language_hints"):
        parameters["language_hints"] = hints
    elif language is not None:
        parameters["language"] = language
    prompt = _last(fields, "prompt")
    if prompt is not None and _accepts(model, "corpus"):
        parameters["corpus"] = {"text": prompt}
    return parameters


def _language(fields: Fields, model: Model) -> str | None:
    hints = _hints(fields, model)
    return hints[0] if hints else None


def _hints(fields: Fields, model: Model) -> list[str]:
    """The languages that the model accepts, without repetitions, as many as it takes. Others are detected anyway.

    `zh-CN` and `zh_CN` are `zh`.
    """
    parameter = next((each for each in model.parameters if each.name in {"language_hints", "language"}), None)
    if parameter is None:
        return []
    schema = parameter.schema.items or parameter.schema
    languages = [_last(fields, "language") or "", *_all(fields, "languages")]
    codes = dict.fromkeys(re.split("[-_]", language.strip().lower())[0] for language in languages)
    max_codes = parameter.schema.max_items if parameter.schema.items else 1
    return [code for code in codes if code in schema.values and code != "auto"][:max_codes]


def _granularities(fields: Fields) -> list[str]:
    granularities = _all(fields, "timestamp_granularities")
    allowed = get_args(Granularity)
    if any(value not in allowed for value in granularities):
        raise InvalidRequest.at("/timestamp_granularities", f"needs {' or '.join(allowed)}")
    return granularities or ["segment"]


def _choice(fields: Fields, name: str, allowed: tuple[str, ...], default: str) -> str:
    value = _last(fields, name) or default
    if value not in allowed:
        raise InvalidRequest.at(f"/{name}", f"needs one of {', '.join(allowed)}")
    return value


def _boolean(fields: Fields, name: str) -> bool:
    value = BOOLEANS.get((_last(fields, name) or "false").lower())
    if value is None:
        raise InvalidRequest.at(f"/{name}", "needs true or false")
    return value


def _last(fields: Fields, name: str) -> str | None:
    """The last value counts, as with most servers that read forms."""
    return fields.get(name, [""])[-1] or None


def _all(fields: Fields, name: str) -> list[str]:
    """Arrays are sent as `name[]`, as `name[0]` by some clients, and as `name` by old ones."""
    pattern = re.compile(rf"{name}(?:\[\d{{0,3}}\])?")
    return [value for key, values in fields.items() if pattern.fullmatch(key) for value in values if value]


def _accepts(model: Model, parameter: str) -> bool:
    return any(each.name == parameter for each in model.parameters)
