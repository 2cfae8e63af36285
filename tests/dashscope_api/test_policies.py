"""`GET /uploads?action=getPolicy`: policies that are passed on, and the jobs with the files that they uploaded."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

from app.clients.service import CurrentClient
from app.dashscope.transport import http_client
from app.db import Sessions, transaction
from app.queue.models import File, Task
from app.sandbox import RunningSandbox
from app.uploads.models import IssuedPolicy
from tests.api_fixtures import application, caller
from tests.dashscope_api.conftest import finished, post
from tests.poller.conftest import settings_for
from tests.uploads.conftest import StartPoller

POLICY = {"action": "getPolicy", "model": "fun-asr"}


async def get_policy(api: httpx.AsyncClient, base: str = "/api/v1", **query: str) -> dict[str, Any]:
    response = await api.get(f"{base}/uploads", params={**POLICY, **query})
    assert response.status_code == 200, response.text
    assert set(response.json()) == {"request_id", "data"}
    data: dict[str, Any] = response.json()["data"]
    return data


async def send(http: httpx.AsyncClient, policy: dict[str, Any], name: str = "a.wav") -> str:
    """Upload as the SDKs do, and return the URL."""
    form = {
        "OSSAccessKeyId": policy["oss_access_key_id"],
        "Signature": policy["signature"],
        "policy": policy["policy"],
        "key": f"{policy['upload_dir']}/{name}",
        "x-oss-object-acl": policy["x_oss_object_acl"],
        "x-oss-forbid-overwrite": policy["x_oss_forbid_overwrite"],
        "success_action_status": "200",
    }
    response = await http.post(policy["upload_host"], data=form, files={"file": b"audio"})
    assert response.status_code == 200, response.text
    return f"oss://{form['key']}"


def job_with(url: str, model: str = "fun-asr") -> dict[str, Any]:
    return {"model": model, "input": {"file_urls": [url]}, "parameters": {}}


async def test_policy_is_passed_on_as_dashscope_sent_it(api: httpx.AsyncClient, sandbox: RunningSandbox) -> None:
    policy = await get_policy(api)
    assert set(policy) == {
        "policy", "signature", "upload_dir", "upload_host", "expire_in_seconds", "max_file_size_mb",
        "capacity_limit_mb", "oss_access_key_id", "x_oss_object_acl", "x_oss_forbid_overwrite",
    }  # fmt: skip
    assert policy["upload_host"] == f"{sandbox.api_origin}/oss"


async def test_files_of_a_policy_are_transcribed_by_its_account(
    *, http: httpx.AsyncClient, sandbox: RunningSandbox, sessions: Sessions, start_poller: StartPoller,
    api_client: tuple[CurrentClient, str],
) -> None:  # fmt: skip
    keys = {"dashscope_beijing_api_key": "one=sk-wrong,two=sk-sandbox-beijing", "dashscope_singapore_api_key": None}
    app = application(settings_for(sandbox, **keys), sessions, http=http)
    async with caller(app, api_client[1]) as api:
        policy = await get_policy(api)
        urls = [await send(http, policy, name) for name in ("a.wav", "folder/b.wav")]
        response = await post(api, {"model": "fun-asr", "input": {"file_urls": urls}})
        async with start_poller(**keys):
            task = await finished(api, response.json()["output"]["task_id"])
    assert task["output"]["task_metrics"] == {"TOTAL": 2, "SUCCEEDED": 2, "FAILED": 0}
    async with transaction(sessions) as session:
        assert set(await session.scalars(select(File.account))) == {"beijing/two"}
        assert set(await session.scalars(select(Task.account))) == {"beijing/two"}


async def test_job_of_the_gateways_own_api_takes_the_files_of_a_policy_too(
    api: httpx.AsyncClient, http: httpx.AsyncClient
) -> None:
    url = await send(http, await get_policy(api, "/singapore/api/v1"))
    job = (await api.post("/v1/jobs", json={"file_urls": [url]})).json()
    assert job["region"] == "singapore"


async def test_files_of_another_clients_policy_are_refused(
    api: httpx.AsyncClient, other_api: httpx.AsyncClient, http: httpx.AsyncClient
) -> None:
    url = await send(http, await get_policy(api))
    response = await post(other_api, job_with(url))
    assert (response.status_code, response.json()["code"]) == (400, "InvalidParameter")
    assert "is no upload of this client" in response.json()["message"]


async def test_files_of_a_policy_are_for_its_model_and_expire(
    api: httpx.AsyncClient, http: httpx.AsyncClient, sessions: Sessions
) -> None:
    url = await send(http, await get_policy(api))
    response = await post(api, job_with(url, "paraformer-v2"))
    assert "was uploaded for fun-asr" in response.json()["message"]
    async with transaction(sessions) as session:
        await session.execute(update(IssuedPolicy).values(expires_at=datetime(2026, 1, 1, tzinfo=UTC)))
    assert "has expired" in (await post(api, job_with(url))).json()["message"]
    await get_policy(api)
    async with transaction(sessions) as session:
        assert len((await session.scalars(select(IssuedPolicy))).all()) == 1  # the expired one is forgotten


async def test_url_of_unknown_origin_is_passed_on(api: httpx.AsyncClient, start_poller: StartPoller) -> None:
    response = await post(api, job_with("oss://dashscope-instant/elsewhere/2026-11-28/x/a.wav"))
    async with start_poller():
        task = await finished(api, response.json()["output"]["task_id"])
    assert task["output"]["task_status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"action": "other"}, 400, "InvalidParameter"),
        ({"model": ""}, 400, "InvalidParameter"),
        ({"model": "nonsense"}, 404, "ModelNotFound"),
    ],
)
async def test_invalid_request_for_a_policy_is_refused(
    api: httpx.AsyncClient, query: dict[str, str], status: int, code: str
) -> None:
    response = await api.get("/api/v1/uploads", params={**POLICY, **query})
    assert (response.status_code, response.json()["code"]) == (status, code)


async def test_policy_is_of_temporary_storage_also_with_an_own_store(
    sandbox: RunningSandbox, sessions: Sessions, api_client: tuple[CurrentClient, str], tmp_path: Path
) -> None:
    settings = settings_for(sandbox, upload_store=f"file://{tmp_path}/store", public_url="http://gateway")
    async with http_client() as http, caller(application(settings, sessions, http=http), api_client[1]) as api:
        assert (await send(http, await get_policy(api))).startswith("oss://")


async def test_without_temporary_storage_the_call_is_unavailable(
    sessions: Sessions, api_client: tuple[CurrentClient, str], sandbox: RunningSandbox
) -> None:
    settings = settings_for(sandbox, dashscope_beijing_base_url="http://127.0.0.1:9/api/v1")
    async with http_client() as http, caller(application(settings, sessions, http=http), api_client[1]) as api:
        response = await api.get("/beijing/api/v1/uploads", params=POLICY)
    assert (response.status_code, response.json()["code"]) == (503, "ServiceUnavailable")
    assert response.headers["retry-after"] == "5"
