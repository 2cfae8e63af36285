"""Limits of a client: requests per second and waiting files."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from app.clients.rate_limits import RateLimiter
from app.clients.service import CurrentClient
from app.db import Sessions
from app.identifiers import UUID_MAX, new_id
from app.main import connect
from app.settings import Settings
from tests.api_fixtures import caller
from tests.jobs.rows import FAILED, QUEUED, RUNNING, SUBMITTING, add_job

URL = "https://example.com/a.wav"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def limits() -> dict[str, int]:
    return {"client_requests_per_s": 5}


@pytest.fixture
def app(app: FastAPI, settings: Settings, sessions: Sessions, limits: dict[str, int]) -> FastAPI:
    connect(app, settings.model_copy(update=limits), sessions=sessions)
    if "client_requests_per_s" in limits:
        app.state.clock = Clock()
        app.state.authenticator.rate_limiter = RateLimiter(limits["client_requests_per_s"], clock=app.state.clock)
    return app


@pytest.fixture
async def strict_api(app: FastAPI, api_client: tuple[CurrentClient, str]) -> AsyncIterator[httpx.AsyncClient]:
    async with caller(app, api_client[1]) as http:
        yield http


def test_bucket_refills_evenly_within_a_second() -> None:
    clock, client_id = Clock(), new_id()
    limit = RateLimiter(3, clock=clock)
    assert [limit.take(client_id) for _ in range(5)] == [2, 1, 0, None, None]
    clock.now += 1 / 3
    assert [limit.take(client_id) for _ in range(2)] == [0, None]
    clock.now += 10
    assert [limit.take(client_id) for _ in range(4)] == [2, 1, 0, None]
    assert limit.take(new_id()) == 2


def test_give_back_undoes_a_take() -> None:
    clock, client_id = Clock(), new_id()
    limit = RateLimiter(2, clock=clock)
    assert [limit.take(client_id) for _ in range(3)] == [1, 0, None]
    limit.give_back(client_id)
    assert [limit.take(client_id) for _ in range(2)] == [0, None]


@pytest.mark.slow
@pytest.mark.parametrize("per_s", [1, 7, 1000, 100_000])
def test_full_limit_is_usable_in_every_second(per_s: int) -> None:
    clock, client_id = Clock(), new_id()
    limit = RateLimiter(per_s, clock=clock)
    taken = 0
    for _ in range(3):
        while limit.take(client_id) is not None:
            taken += 1
        clock.now += 1
    assert taken == 3 * per_s


async def test_requests_over_the_limit_are_refused(app: FastAPI, strict_api: httpx.AsyncClient) -> None:
    responses = [await strict_api.get("/v1/models") for _ in range(6)]
    assert [response.status_code for response in responses] == [200] * 5 + [429]
    assert [response.headers["ratelimit"] for response in responses] == [
        f'"requests";r={left};t=1' for left in (4, 3, 2, 1, 0, 0)
    ]
    assert {response.headers["ratelimit-policy"] for response in responses} == {'"requests";q=5;w=1'}
    assert (responses[5].json()["code"], responses[5].headers["retry-after"]) == ("rate_limited", "1")
    app.state.clock.now += 1
    assert (await strict_api.get("/v1/models")).status_code == 200


async def test_limit_is_per_client_and_does_not_apply_to_admins(
    strict_api: httpx.AsyncClient, other_api: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    for _ in range(6):
        await strict_api.get("/v1/models")
    assert (await other_api.get("/v1/models")).status_code == 200
    for _ in range(6):
        assert (await admin.get("/v1/clients")).status_code == 200


async def test_error_responses_have_rate_limit_headers(strict_api: httpx.AsyncClient) -> None:
    for path, status in ((f"/v1/jobs/{new_id()}", 404), ("/v1/jobs?limit=x", 422)):
        response = await strict_api.get(path)
        assert (response.status_code, "ratelimit" in response.headers) == (status, True)


@pytest.mark.parametrize("limits", [{}])
async def test_without_a_limit_there_are_no_rate_limit_headers(strict_api: httpx.AsyncClient) -> None:
    responses = [await strict_api.get("/v1/models") for _ in range(10)]
    assert {response.status_code for response in responses} == {200}
    assert not [name for response in responses for name in response.headers if "ratelimit" in name]


@pytest.mark.parametrize("limits", [{"client_waiting_files": 3}])
class TestWaitingFiles:
    async def test_running_files_do_not_count_against_the_quota(
        self, strict_api: httpx.AsyncClient, api_client: tuple[CurrentClient, str], sessions: Sessions
    ) -> None:
        await add_job(sessions, api_client[0].id, [QUEUED, RUNNING, SUBMITTING, FAILED])
        assert (await post(strict_api, 3)).json()["code"] == "too_many_waiting_files"
        assert (await post(strict_api, 2)).status_code == 202
        refused = await post(strict_api, 1)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        assert refused.headers["ratelimit-policy"] == '"waiting-files";q=3;qu="files"'
        assert len((await strict_api.get("/v1/jobs")).json()["items"]) == 2

    async def test_waiting_files_of_other_clients_do_not_count(
        self, strict_api: httpx.AsyncClient, other_api: httpx.AsyncClient
    ) -> None:
        assert [(await post(http, 3)).status_code for http in (strict_api, other_api)] == [202, 202]

    async def test_job_larger_than_the_quota_is_told_to_split(self, strict_api: httpx.AsyncClient) -> None:
        response = await post(strict_api, 4)
        assert (response.status_code, response.json()["code"]) == (422, "validation_failed")
        assert [place["pointer"] for place in response.json()["errors"]] == ["/file_urls"]

    async def test_replayed_job_needs_no_quota(self, strict_api: httpx.AsyncClient) -> None:
        first = await post(strict_api, 3, key="k")
        again = await post(strict_api, 3, key="k")
        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
        assert (await post(strict_api, 3, key="other")).status_code == 429

    async def test_retry_over_the_quota_changes_nothing(
        self, strict_api: httpx.AsyncClient, api_client: tuple[CurrentClient, str], sessions: Sessions
    ) -> None:
        job_id = await add_job(sessions, api_client[0].id, [FAILED, FAILED])
        await post(strict_api, 2)
        before = (await strict_api.get(f"/v1/jobs/{job_id}")).json()
        assert (await strict_api.post(f"/v1/jobs/{job_id}/retry")).status_code == 429
        assert (await strict_api.get(f"/v1/jobs/{job_id}")).json() == before

    async def test_retry_larger_than_the_quota_is_accepted_if_no_file_waits(
        self, strict_api: httpx.AsyncClient, api_client: tuple[CurrentClient, str], sessions: Sessions
    ) -> None:
        job_id = await add_job(sessions, api_client[0].id, [FAILED] * 4)
        other = (await post(strict_api, 1)).json()["id"]
        assert (await strict_api.post(f"/v1/jobs/{job_id}/retry")).status_code == 429
        await strict_api.post(f"/v1/jobs/{other}/cancel")
        assert (await strict_api.post(f"/v1/jobs/{job_id}/retry")).json()["file_counts"]["queued"] == 4


async def post(http: httpx.AsyncClient, files: int, *, key: str | None = None) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return await http.post("/v1/jobs", json={"file_urls": [URL] * files}, headers=headers)


def test_delay_counts_requests_up_to_its_limit_only() -> None:
    limiter, client = RateLimiter(2, clock=lambda: 0.0), UUID_MAX
    delays = [limiter.delay_s(client, at_most_s=1) for _ in range(6)]
    assert delays == pytest.approx([0, 0, 0.5, 1, 1, 1], abs=1e-3)
    # The last two were not counted: the bucket is full again after 2 s.
    assert limiter.delay_s(client, at_most_s=9) == pytest.approx(1.5, abs=1e-3)
    assert limiter.take(client) is None
