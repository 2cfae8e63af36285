"""Limits of uploads: how many of a client are in progress, the disk of the gateway, and the host of the storage."""

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from app.dashscope.temporary_storage import parse_policy
from app.dashscope.wire import MalformedResponse
from app.errors import TooManyUploads, UploadUnavailable
from app.identifiers import new_id
from app.uploads.transfer import MAX_PARTS, open_spool
from app.uploads.uploader import MAX_UPLOADS, UploadLimit
from tests.uploads.test_uploads import AUDIO, FILE_HEAD, HEADERS, raw_form, upload

ONE, OTHER = new_id(), new_id()


def test_limit_counts_each_client_and_forgets_uploads_that_ended() -> None:
    limit = UploadLimit(2)

    def hold_three(client_id: UUID) -> None:
        with limit.hold(client_id), limit.hold(client_id), limit.hold(client_id):
            pytest.fail("the third upload is one too many")

    for _ in range(2):
        with pytest.raises(TooManyUploads):
            hold_three(ONE)
    with limit.hold(ONE), limit.hold(ONE), limit.hold(OTHER):
        pass


async def test_uploads_that_stall_do_not_stop_other_clients(
    api: httpx.AsyncClient, other_api: httpx.AsyncClient
) -> None:
    ended, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def stalled() -> AsyncIterator[bytes]:
        body = raw_form((FILE_HEAD, AUDIO))
        yield body[:-10]
        begun.release()
        await ended.wait()
        yield body[-10:]

    waiting = [
        asyncio.ensure_future(api.post("/v1/uploads", content=stalled(), headers=HEADERS)) for _ in range(MAX_UPLOADS)
    ]
    for _ in waiting:
        await begun.acquire()
    refused = await api.post("/v1/uploads", content=raw_form((FILE_HEAD, AUDIO)), headers=HEADERS)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_uploads")
    assert "retry-after" in refused.headers
    await upload(other_api)
    ended.set()
    assert {response.status_code for response in await asyncio.gather(*waiting)} == {201}
    await upload(api)


async def test_file_that_arrives_in_single_bytes_is_written_in_chunks(tmp_path: Path) -> None:
    contents = os.urandom(2 * MAX_PARTS + 1)
    async with open_spool(tmp_path) as spool:
        returned = [await spool.add(memoryview(contents)[at : at + 1]) for at in range(len(contents))]
        chunks = [chunk for chunk in (*returned, await spool.flush()) if chunk is not None]
        await spool.finish()
        assert [len(chunk) for chunk in chunks] == [MAX_PARTS, MAX_PARTS, 1]
        assert b"".join([chunk async for chunk in spool.chunks()]) == b"".join(chunks) == contents
        assert spool.sha256 == hashlib.sha256(contents).digest()


async def test_full_disk_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with open_spool(tmp_path) as spool:
        blocks = os.statvfs(tmp_path)
        almost_full = os.statvfs_result((*blocks[:3], 1, 1, *blocks[5:]))
        monkeypatch.setattr(os, "fstatvfs", lambda _: almost_full)
        await spool.add(b"RIFF")
        await spool.flush()
        with pytest.raises(UploadUnavailable, match="No space left") as raised:
            await spool.finish()
    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.errno == errno.ENOSPC


async def test_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UploadUnavailable):
        async with open_spool(tmp_path / "missing"):
            pytest.fail("the folder does not exist")


@pytest.mark.parametrize("method", ["DELETE", "PUT", "POST"])
async def test_other_calls_of_uploads_take_no_large_body(api: httpx.AsyncClient, method: str) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while read < 100_000_000:
            read += 1_000_000
            yield bytes(1_000_000)

    response = await api.request(method, f"/v1/uploads/{ONE}", content=endless())
    assert response.status_code in {405, 413}
    assert read < 10_000_000


BASE = "https://dashscope.aliyuncs.com/api/v1"


def policy(upload_host: str) -> bytes:
    fields = '"policy": "p", "signature": "s", "upload_dir": "d", "oss_access_key_id": "k"'
    return f'{{"data": {{"upload_host": "{upload_host}", {fields}}}}}'.encode()


@pytest.mark.parametrize(
    "host",
    [
        "http://169.254.169.254/latest",
        "http://127.0.0.1:5432",
        "https://evil.example",
        "https://aliyuncs.com.evil.example",
        "https://evil.example#.aliyuncs.com",
        "https://x@evil.example",
        "https://oss.aliyuncs.com@evil.example",
        "file:///etc/passwd",
        "oss.aliyuncs.com",
    ],
)
def test_files_are_sent_to_hosts_of_dashscope_only(host: str) -> None:
    with pytest.raises(MalformedResponse, match="upload_host"):
        parse_policy(policy(host), base_url=BASE)


@pytest.mark.parametrize(
    "host", ["https://dashscope-file-mgr.oss-cn-beijing.aliyuncs.com", "https://dashscope.aliyuncs.com:8443"]
)
def test_hosts_of_dashscope_are_accepted(host: str) -> None:
    assert parse_policy(policy(host), base_url=BASE).upload_host == host
