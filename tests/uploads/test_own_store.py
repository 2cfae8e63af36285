"""UPLOAD_STORE: uploads are kept by the gateway, and DashScope gets a signed URL for each submit."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from app.sandbox import RunningSandbox
from app.sandbox.faults import Faults
from app.settings import Settings
from tests.api_fixtures import ADMIN_TOKEN
from tests.poller.conftest import settings_for
from tests.uploads.conftest import QueueClient, StartPoller
from tests.uploads.test_uploads import AUDIO, form, upload

PUBLIC_URL = "https://asr.example.com/gateway"


@pytest.fixture
def store(tmp_path: Path) -> dict[str, Any]:
    return {"upload_store": f"file://{tmp_path / 'uploads'}", "public_url": PUBLIC_URL}


@pytest.fixture
def settings(sandbox: RunningSandbox, store: dict[str, Any]) -> Settings:
    return settings_for(sandbox, admin_token=ADMIN_TOKEN, **store)


def kept_files(store: dict[str, Any]) -> set[str]:
    folder = Path(store["upload_store"].removeprefix("file://"))
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def replace_folder_by_file(store: dict[str, Any]) -> None:
    folder = Path(store["upload_store"].removeprefix("file://"))
    folder.rename(folder.with_name("away"))
    folder.touch()


async def run(api: httpx.AsyncClient, start_poller: StartPoller, store: dict[str, Any], **job: Any) -> dict[str, Any]:
    posted = (await api.post("/v1/jobs", json=job)).json()
    async with start_poller(**store):
        done: dict[str, Any] = (await api.get(f"/v1/jobs/{posted['id']}", params={"wait": 20})).json()
    return done


async def test_upload_serves_every_model_and_region(
    api: httpx.AsyncClient, start_poller: StartPoller, sandbox: RunningSandbox, store: dict[str, Any]
) -> None:
    body = await upload(api)
    assert body["file_url"] == f"upload://{body['id']}"
    for job in ({"model": "paraformer-v2"}, {"region": "singapore"}):
        done = await run(api, start_poller, store, file_urls=[body["file_url"]], **job)
        assert done["status"] == "succeeded", done
        assert done["files"][0]["url"] == body["file_url"]
    sent = [submit.file_urls[0] for submit in sandbox.state.submits]
    assert all(url.startswith(f"{PUBLIC_URL}/v1/uploads/content/{body['id']}.wav?expires=") for url in sent)


async def test_signed_url_serves_the_bytes_without_a_token(
    api: httpx.AsyncClient,
    stranger: httpx.AsyncClient,
    start_poller: StartPoller,
    sandbox: RunningSandbox,
    store: dict[str, Any],
) -> None:
    body = await upload(api)
    await run(api, start_poller, store, file_urls=[body["file_url"]])
    link = httpx.URL(sandbox.state.submits[0].file_urls[0].removeprefix(PUBLIC_URL))
    response = await stranger.get(link)
    assert (response.status_code, response.content) == (200, AUDIO)
    part = await stranger.get(link, headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, AUDIO[:10])
    for ranges in ("lines=1-2", "bytes=9-1", "bytes=a-b", "bytes", f"bytes={'9' * 5000}-"):
        whole = await stranger.get(link, headers={"Range": ranges})
        assert (whole.status_code, whole.content) == (200, AUDIO)
    for ranges in ("bytes=-4", f"Bytes = {len(AUDIO) - 4}-", f"bytes={len(AUDIO) - 4}-{len(AUDIO) + 9}"):
        assert (await stranger.get(link, headers={"Range": ranges})).content == AUDIO[-4:]
    assert (await stranger.get(link, headers={"Range": f"bytes={len(AUDIO)}-"})).status_code == 416
    (Path(store["upload_store"].removeprefix("file://")) / link.path.rpartition("/")[2]).unlink()
    assert (await stranger.get(link)).status_code == 404
    expired = link.copy_set_param("expires", "1")
    assert (await stranger.get(expired)).status_code == 404
    assert (await stranger.get(link.copy_set_param("signature", "x"))).status_code == 404
    assert (await api.delete(f"/v1/uploads/{body['id']}")).status_code == 204
    assert (await stranger.get(link)).status_code == 404


async def test_deleted_upload_leaves_no_bytes_and_fails_its_queued_files(
    api: httpx.AsyncClient, start_poller: StartPoller, store: dict[str, Any], sandbox: RunningSandbox
) -> None:
    body = await upload(api)
    job = (await api.post("/v1/jobs", json={"file_urls": [body["file_url"]]})).json()
    assert (await api.delete(f"/v1/uploads/{body['id']}")).status_code == 204
    assert not kept_files(store)
    async with start_poller(**store):
        done = (await api.get(f"/v1/jobs/{job['id']}", params={"wait": 20})).json()
    assert done["files"][0]["error"]["code"] == "upload_expired"
    assert not sandbox.state.submits


async def test_expired_uploads_and_those_of_revoked_clients_are_deleted(
    api: httpx.AsyncClient,
    other_api: httpx.AsyncClient,
    queue: QueueClient,
    start_poller: StartPoller,
    store: dict[str, Any],
) -> None:
    expired, kept = await upload(api), await upload(api, **form("kept.wav"))
    await upload(other_api)
    await queue.rows("UPDATE uploads SET expires_at = now() WHERE id = :id RETURNING id", id=expired["id"])
    await queue.rows("UPDATE clients SET revoked_at = now() WHERE name = 'other-client' RETURNING id")
    async with start_poller(**store):
        await queue.until("SELECT 1 FROM uploads WHERE deleted_at IS NOT NULL HAVING count(*) = 2")
    assert kept_files(store) == {f"{kept['id']}.wav"}


async def test_file_that_a_killed_process_was_storing_is_deleted(
    api: httpx.AsyncClient, queue: QueueClient, start_poller: StartPoller, store: dict[str, Any]
) -> None:
    kept = await upload(api)
    assert not await queue.rows("SELECT 1 FROM unfinished_uploads")
    folder = Path(store["upload_store"].removeprefix("file://"))
    for name in ("old.wav#1", "old.wav#2", "whole.wav", "new.wav#1"):
        (folder / name).write_bytes(AUDIO)
    await queue.rows(
        "INSERT INTO unfinished_uploads (object_key, created_at) VALUES ('old.wav', now() - interval '1 day'),"
        " ('whole.wav', now() - interval '1 day'), ('new.wav', now()) RETURNING object_key"
    )
    async with start_poller(**store):
        await queue.until("SELECT 1 FROM unfinished_uploads HAVING count(*) = 1")
    assert kept_files(store) == {f"{kept['id']}.wav", "new.wav#1"}


async def test_file_is_noted_before_the_store_has_a_byte_of_it(
    api: httpx.AsyncClient, queue: QueueClient, store: dict[str, Any]
) -> None:
    replace_folder_by_file(store)  # the store refuses all files, so the upload never ends
    assert (await api.post("/v1/uploads", **form("a.wav"))).status_code == 503
    [noted] = await queue.rows("SELECT object_key FROM unfinished_uploads")
    assert noted.object_key.endswith(".wav")


async def test_lost_submit_of_an_upload_is_found_again(
    api: httpx.AsyncClient, start_poller: StartPoller, sandbox: RunningSandbox, store: dict[str, Any]
) -> None:
    """The reconciler knows the file by the path of the URL that was sent, which had another signature."""
    sandbox.state.faults = Faults(drop_submit_rate=1)
    body = await upload(api)
    job = (await api.post("/v1/jobs", json={"file_urls": [body["file_url"]]})).json()
    async with start_poller(**store):
        while not sandbox.state.submits:
            await api.get(f"/v1/jobs/{job['id']}", params={"wait": 1})
        sandbox.state.faults = Faults()
        done = (await api.get(f"/v1/jobs/{job['id']}", params={"wait": 30})).json()
    assert done["status"] == "succeeded"
    assert len(sandbox.state.submits) == 1
