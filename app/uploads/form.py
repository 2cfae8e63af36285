"""Reads a multipart/form-data body as it arrives: short text fields, and one file of any size."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.message import Message
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser
from starlette.requests import Request

from app.api.problems import MalformedBody, UnsupportedMediaType
from app.api.request_body import MAX_CONTENT_TYPE, require_no_coding
from app.errors import InvalidRequest, json_pointer

MAX_FIELDS = 64
MAX_FIELD_BYTES = 64 * 1024
MAX_NAME_CHARS = 255
# RFC 5987 has these two. Python's other codecs take input that raises errors of all kinds, or quadratic time.
_CHARSETS = {"utf-8": "utf-8", "iso-8859-1": "latin-1"}


@dataclass(frozen=True, slots=True)
class Field:
    """A part without a file name."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FileStart:
    """The head of the file part. `size` is its size if the file is the last part; None if the length is unknown."""

    name: str
    file_name: str
    size: int | None


@dataclass(frozen=True, slots=True)
class FileEnd:
    pass


FormEvent = Field | FileStart | memoryview | FileEnd


async def read_form(request: Request) -> AsyncIterator[FormEvent]:
    """The parts in the order of the body. A memoryview has contents of the file that has started.

    Raises UnsupportedMediaType, MalformedBody for a body that is not a complete form, and InvalidRequest for fields
    that are too many or too long, or not UTF-8.
    """
    parser = _Parser(_boundary(request), _content_length(request))
    async for chunk in request.stream():
        for event in parser.feed(chunk):
            yield event
    parser.finish()


class _Parser:
    def __init__(self, boundary: bytes, content_length: int | None) -> None:
        self._content_length = content_length
        self._tail_bytes = len(b"\r\n--") + len(boundary) + len(b"--\r\n")
        self._events: list[FormEvent] = []
        self._fed = 0
        self._ended = False
        self._header_name = b""
        self._header_value = b""
        self._disposition = ""
        self._fields = 0
        # The name of the text field that is being read, and its value. None: the part is a file.
        self._field: tuple[str, bytearray] | None = None
        self._file_waits: tuple[str, str] | None = None
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_header_name,
                "on_header_value": self._add_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> list[FormEvent]:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            # The library names the boundary by numbers of characters.
            reason = "its boundary is not that of the Content-Type" if "boundary" in str(error) else str(error)
            raise MalformedBody(
                f"The body is not a valid multipart form: {reason}; let the HTTP library write the form and its header."
            ) from None
        self._fed += len(chunk)
        events, self._events = self._events, []
        return events

    def finish(self) -> None:
        if not self._ended:
            raise MalformedBody("The form ends before its last boundary; send the whole body.")

    def _begin_part(self) -> None:
        self._disposition = ""

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value.decode("utf-8", "replace")
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        name, file_name = _names(self._disposition)
        if name is None:
            raise MalformedBody("A part of the form has no name in its Content-Disposition.")
        if file_name is not None:
            self._field, self._file_waits = None, (name, file_name)
            return
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise InvalidRequest(f"The form has more than {MAX_FIELDS} fields.")
        self._field, self._file_waits = (name, bytearray()), None

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._start_file(self._fed + start)
            self._events.append(memoryview(data)[start:end])
            return
        name, value = self._field
        value += data[start:end]
        if len(value) > MAX_FIELD_BYTES:
            detail = f"has more than {MAX_FIELD_BYTES:,} bytes; send files as parts with a file name"
            raise _bad_field(name, detail)

    def _end_part(self) -> None:
        if self._field is None:
            self._start_file(None)
            self._events.append(FileEnd())
            return
        name, value = self._field
        try:
            self._events.append(Field(name, value.decode()))
        except UnicodeDecodeError:
            raise _bad_field(name, "is not UTF-8; send files as parts with a file name") from None

    def _start_file(self, position: int | None) -> None:
        """The first bytes of the file are at `position` of the body; None: the file is empty."""
        if self._file_waits is None:
            return
        name, file_name = self._file_waits
        self._file_waits = None
        size: int | None = None
        if position is None:
            size = 0
        elif self._content_length is not None:
            size = self._content_length - position - self._tail_bytes
        self._events.append(FileStart(name, file_name, size if size is None or size >= 0 else None))

    def _end(self) -> None:
        self._ended = True


def _boundary(request: Request) -> bytes:
    require_no_coding(request)
    content_type = request.headers.get("content-type", "")
    message = Message()
    message["content-type"] = content_type[:MAX_CONTENT_TYPE]
    boundary = message.get_param("boundary")
    if len(content_type) > MAX_CONTENT_TYPE or message.get_content_type() != "multipart/form-data":
        raise UnsupportedMediaType("The body has to be multipart/form-data, with the audio file in the part `file`.")
    if not isinstance(boundary, str) or not boundary or not boundary.isascii():
        raise MalformedBody("The Content-Type has no boundary; let the HTTP library write the header of the form.")
    return boundary.encode()


def _content_length(request: Request) -> int | None:
    value = request.headers.get("content-length", "")
    return int(value) if value.isdigit() and len(value) <= 20 else None


def _names(disposition: str) -> tuple[str | None, str | None]:
    """The name and the file name of a part. `filename*` (RFC 5987) goes before `filename`.

    Browsers escape quotes as `%22`, and some clients send a whole path, of which the last part is the name.
    """
    message = Message()
    message["content-disposition"] = disposition.replace("\r", " ").replace("\n", " ")
    name = message.get_param("name", header="content-disposition", unquote=True)
    extended = message.get_param("filename", header="content-disposition", unquote=True)
    if isinstance(extended, tuple):  # RFC 2231 and 5987
        charset, _, text = extended
        codec = _CHARSETS.get((charset or "").lower(), "utf-8")
        file_name: str | None = text.encode("latin-1", "replace").decode(codec, "replace")
    else:
        file_name = extended.replace("%22", '"') if isinstance(extended, str) else None
    if isinstance(name, tuple):
        name = unquote(name[2])
    return (name if isinstance(name, str) else None), (None if file_name is None else _last_part(file_name))


def _bad_field(name: str, detail: str) -> InvalidRequest:
    return InvalidRequest.at(json_pointer("", name), detail)


def _last_part(file_name: str) -> str:
    last = file_name.replace("\\", "/").rpartition("/")[2].strip()
    return "".join(character for character in last if character.isprintable())[-MAX_NAME_CHARS:]
