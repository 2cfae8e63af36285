"""Forms that are written to break the parser: odd charsets, long headers, many parts and names with odd characters."""

import httpx
import pytest

from app.sandbox import RunningSandbox
from tests.uploads.test_uploads import AUDIO, FILE_HEAD, HEADERS, raw_form


@pytest.mark.parametrize(
    "charset", ["idna", "punycode", "undefined", "zip", "rot13", "unicode_escape", "utf-7", "\0", "a\0b", "nope", ""]
)
async def test_charset_of_a_file_name_is_never_an_error(api: httpx.AsyncClient, charset: str) -> None:
    head = f"Content-Disposition: form-data; name=\"file\"; filename*={charset}''%E4%BC%9A.wav"
    response = await api.post("/v1/uploads", content=raw_form((head, AUDIO)), headers=HEADERS)
    assert response.status_code == 201, response.text
    assert response.json()["file_name"] == "会.wav"


async def test_latin_1_file_name_is_read(api: httpx.AsyncClient) -> None:
    head = "Content-Disposition: form-data; name=\"file\"; filename*=ISO-8859-1''Stra%DFe.wav"
    response = await api.post("/v1/uploads", content=raw_form((head, AUDIO)), headers=HEADERS)
    assert response.json()["file_name"] == "Straße.wav"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": f'multipart/form-data; a="{";" * 59_000}"; boundary=limit'},
        {**HEADERS, "Content-Encoding": "gzip"},
    ],
    ids=["long", "compressed"],
)
async def test_media_type_that_is_not_a_form_is_refused(api: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """The standard library took 2.6 s for the long one."""
    response = await api.post("/v1/uploads", content=raw_form((FILE_HEAD, AUDIO)), headers=headers)
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


async def test_body_that_is_not_the_form_of_its_header_is_explained(api: httpx.AsyncClient) -> None:
    for body in (b'{"file": "a.wav"}', raw_form((FILE_HEAD, AUDIO)).replace(b"--", b"-+")):
        response = await api.post("/v1/uploads", content=body, headers=HEADERS)
        assert response.status_code == 400
        assert "its boundary is not that of the Content-Type" in response.json()["detail"]


async def test_recording_without_a_file_name_is_explained(api: httpx.AsyncClient) -> None:
    head = 'Content-Disposition: form-data; name="file"'
    for audio in (b"RIFF\xff", b"RIFF" * 20_000):
        response = await api.post("/v1/uploads", content=raw_form((head, audio)), headers=HEADERS)
        assert response.status_code == 422
        assert response.json()["detail"].endswith("; send files as parts with a file name.")


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([('Content-Disposition: form-data; name="a"', b"1")] * 1000, 422),
        ([("X: " + "a" * 1_000_000, b""), (FILE_HEAD, AUDIO)], 400),
        ([("\r\n".join(["X: a"] * 10_000), b""), (FILE_HEAD, AUDIO)], 400),
        ([(f'Content-Disposition: form-data; name="file"; x="{";" * 60_000}', AUDIO)], 400),
        ([('Content-Disposition: form-data; name="a"', b"a" * 100_000), (FILE_HEAD, AUDIO)], 422),
        ([('Content-Disposition: form-data; name="model"', b"\xff"), (FILE_HEAD, AUDIO)], 422),
    ],
    ids=["fields", "long header", "many headers", "long disposition", "long value", "not UTF-8"],
)
async def test_oversized_form_is_refused(
    api: httpx.AsyncClient, sandbox: RunningSandbox, parts: list[tuple[str, bytes]], status: int
) -> None:
    response = await api.post("/v1/uploads", content=raw_form(*parts), headers=HEADERS)
    assert response.status_code == status, response.text
    assert not sandbox.state.uploads


@pytest.mark.parametrize("file_name", ["", "call.wav"])
async def test_name_of_an_unknown_part_is_a_json_pointer(api: httpx.AsyncClient, file_name: str) -> None:
    head = 'Content-Disposition: form-data; name="a/b~c"' + (f'; filename="{file_name}"' if file_name else "")
    body = raw_form((head, b"1"), (FILE_HEAD, AUDIO))
    response = await api.post("/v1/uploads", content=body, headers=HEADERS)
    assert response.json()["errors"][0]["pointer"] == "/a~1b~0c"


@pytest.mark.parametrize("name", ["../../etc/passwd", "..\\..\\passwd", "\x1b[31mpass\x00wd", "\u202epasswd", ".."])
async def test_file_name_is_no_path_and_has_no_control_characters(api: httpx.AsyncClient, name: str) -> None:
    head = f'Content-Disposition: form-data; name="file"; filename="{name}"'
    body = (await api.post("/v1/uploads", content=raw_form((head, AUDIO)), headers=HEADERS)).json()
    assert body["file_name"] in {"passwd", "[31mpasswd", ".."}
    assert ".." not in body["file_url"]
    assert body["file_url"].rpartition("/")[2] == body["id"]
