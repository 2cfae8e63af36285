"""`backup` and `restore`: the database and the token, into a new DATA_DIR or an empty database."""

import asyncio
import io
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit
from zipfile import ZipFile

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from app.backup import restore_backup, split_password, write_backup
from app.db import Sessions
from app.server.startup import StartError
from app.settings import Settings, load_settings
from tests.api_fixtures import new_client
from tests.databases import on_server, with_database
from tests.jobs.rows import add_job
from tests.processes import run_cold, running, running_sandbox

RECORDING = "https://dashscope.oss-cn-beijing.aliyuncs.com/samples/audio/paraformer/hello_world_female2.wav"


@pytest.fixture
async def settings(database_url: str, tmp_path: Path) -> Settings:
    return load_settings({"database_url": database_url, "data_dir": str(tmp_path / "data")})


@pytest.fixture
async def empty_database(database_url: str) -> AsyncIterator[str]:
    """A database without tables, on the server of the tests."""
    name = f"{urlsplit(database_url).path[1:]}_restored"
    await on_server(database_url, f'CREATE DATABASE "{name}"')
    yield with_database(database_url, name)
    await on_server(database_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.mark.slow
async def test_a_restored_gateway_has_the_transcripts_and_accepts_the_old_token(used_data_dir: Path) -> None:
    file, other = used_data_dir.with_name("backup.zip"), used_data_dir.with_name("other")
    async with running_sandbox() as upstream:
        async with running("serve", DATA_DIR=str(used_data_dir), PORT="0", **upstream) as gateway:
            url = await gateway.url()
            token = (used_data_dir / "api_token").read_text().strip()
            async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:
                body = {"model": "fun-asr", "file_urls": [RECORDING]}
                job = (await client.post("/v1/jobs", params={"wait": 30}, json=body, timeout=60)).json()
                transcript = (await client.get(f"/v1/transcripts/{job['files'][0]['transcript_id']}")).content
            assert await run_cold("backup", str(file), DATA_DIR=str(used_data_dir)) == (0, "", "")
            assert await gateway.stop() == 0
        code, out, _ = await run_cold("restore", str(file), DATA_DIR=str(other))
        assert (code, out.split(".")[0]) == (0, "Restored")
        async with running("serve", DATA_DIR=str(other), PORT="0", **upstream) as gateway:
            url = await gateway.url()
            async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:
                found = await client.get(f"/v1/transcripts/{job['files'][0]['transcript_id']}")
            assert (found.status_code, found.content) == (200, transcript)
            assert await gateway.stop() == 0


async def test_a_backup_is_private_and_keeps_an_existing_file(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "backup.zip"
    await asyncio.to_thread(write_backup, settings, file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["backup.zip"]  # noqa: PTH208
    with pytest.raises(StartError, match="exists"):
        await asyncio.to_thread(write_backup, settings, file)
    with pytest.raises(StartError, match="cannot be written: No such file"):
        await asyncio.to_thread(write_backup, settings, tmp_path / "missing" / "backup.zip")


async def test_restore_into_an_empty_database(settings: Settings, empty_database: str, tmp_path: Path) -> None:
    file = tmp_path / "backup.zip"
    await asyncio.to_thread(write_backup, settings, file)
    target = settings.model_copy(update={"database_url": SecretStr(empty_database)})
    assert await asyncio.to_thread(restore_backup, target, file, submit_waiting=False) == 0
    with pytest.raises(StartError, match="is not empty: restore into"):
        await asyncio.to_thread(restore_backup, target, file, submit_waiting=False)


@pytest.mark.parametrize(("submit", "failed", "status"), [(False, 1, "failed"), (True, 0, "queued")])
async def test_waiting_files_are_submitted_only_on_request(
    settings: Settings,
    sessions: Sessions,
    empty_database: str,
    tmp_path: Path,
    *,
    submit: bool,
    failed: int,
    status: str,
) -> None:
    client, _ = await new_client(sessions, "tester")
    await add_job(sessions, client.id)
    await asyncio.to_thread(write_backup, settings, tmp_path / "backup.zip")
    into = settings.model_copy(update={"database_url": SecretStr(empty_database)})
    assert await asyncio.to_thread(restore_backup, into, tmp_path / "backup.zip", submit_waiting=submit) == failed
    connection = await asyncpg.connect(empty_database)  # type: ignore[no-untyped-call]
    assert await connection.fetchval("SELECT status FROM jobs") == status
    await connection.close()


async def test_a_backup_goes_through_standard_streams(
    settings: Settings, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    # A pipe cannot seek, as in `docker exec CONTAINER python -m app backup - > FILE`.
    with os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb") as target:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(target))
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(source))
        into = settings.model_copy(update={"database_url": SecretStr(empty_database)})
        restoring = asyncio.create_task(asyncio.to_thread(restore_backup, into, Path("-"), submit_waiting=False))
        await asyncio.to_thread(write_backup, settings, Path("-"))
        target.close()
        assert await restoring == 0


async def test_a_backup_ends_if_its_output_is_closed(
    database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More than the pipe from pg_dump holds, and random, so that compression does not help.
    large = "CREATE TABLE large AS SELECT md5(random()::text) FROM generate_series(1, 50000)"
    connection = await asyncpg.connect(database_url)  # type: ignore[no-untyped-call]
    await connection.execute(large)
    await connection.close()
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb", buffering=0) as target:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(target)))
        writer = asyncio.create_task(asyncio.to_thread(write_backup, settings, Path("-")))
        with os.fdopen(reading, "rb") as source:  # as in `backup - | head -c 1000`
            await asyncio.to_thread(source.read, 1000)
        async with asyncio.timeout(60):
            with pytest.raises(StartError, match="Standard output cannot be written: Broken pipe"):
                await writer
        sys.stdout.close()


async def test_restore_replaces_no_token(settings: Settings, empty_database: str, tmp_path: Path) -> None:
    file, token = tmp_path / "backup.zip", settings.data_dir / "api_token"
    token.parent.mkdir()
    token.write_text("a-token\n")
    await asyncio.to_thread(write_backup, settings, file)
    target = settings.model_copy(update={"database_url": SecretStr(empty_database)})
    with pytest.raises(StartError, match="would be replaced"):
        await asyncio.to_thread(restore_backup, target, file, submit_waiting=False)
    token.unlink()
    await asyncio.to_thread(restore_backup, target, file, submit_waiting=True)
    assert token.read_text() == "a-token\n"
    assert token.stat().st_mode & 0o777 == 0o600


async def test_restore_explains_a_wrong_file(settings: Settings, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    for content, expected in ((b"no archive", "is not a backup"), (None, "cannot be read: No such file")):
        wrong.unlink(missing_ok=True)
        if content is not None:
            wrong.write_bytes(content)
        with pytest.raises(StartError, match=expected):
            await asyncio.to_thread(restore_backup, settings, wrong, submit_waiting=False)
    with ZipFile(wrong, "w") as archive:
        archive.writestr("backup.json", json.dumps({"format": 1, "version": "9.0", "revision": "29991231_0000"}))
        archive.writestr("database.dump", b"")
    with pytest.raises(StartError, match="which is newer than"):
        await asyncio.to_thread(restore_backup, settings, wrong, submit_waiting=False)


async def test_a_truncated_dump_leaves_the_database_empty(
    settings: Settings, empty_database: str, tmp_path: Path
) -> None:
    file, cut = tmp_path / "backup.zip", tmp_path / "cut.zip"
    await asyncio.to_thread(write_backup, settings, file)
    with ZipFile(file) as whole, ZipFile(cut, "w") as archive:
        archive.writestr("backup.json", whole.read("backup.json"))
        archive.writestr("database.dump", whole.read("database.dump")[:-2000])
    target = settings.model_copy(update={"database_url": SecretStr(empty_database)})
    with pytest.raises(StartError, match="pg_restore: error:"):
        await asyncio.to_thread(restore_backup, target, cut, submit_waiting=False)
    await asyncio.to_thread(restore_backup, target, file, submit_waiting=False)


@pytest.mark.parametrize(
    ("url", "address", "password"),
    [
        ("postgresql://asr:p%40ss@db/asr?sslmode=require", "postgresql://asr@db/asr?sslmode=require", "p@ss"),
        ("postgresql://asr@/asr?host=%2Frun&password=x", "postgresql://asr@/asr?host=%2Frun", "x"),
        ("postgresql://db:5432,other/asr", "postgresql://db:5432,other/asr", ""),
    ],
)
def test_passwords_are_no_arguments_of_processes(url: str, address: str, password: str) -> None:
    assert split_password(url) == (address, password)
