"""`transcription_url`: upstream's bytes behind a signed link."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit
from uuid import UUID
from xml.etree import ElementTree as ET

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import update

from app.clients.service import CurrentClient, revoke_client
from app.db import Sessions, transaction
from app.queue.models import File, Job
from app.transcripts.models import Transcript
from tests.dashscope_api.conftest import fetch
from tests.jobs.rows import SUCCEEDED, add_job
from tests.transcripts.documents import sample
from tests.transcripts.transcript_store import store


@pytest.fixture
async def job_id(sessions: Sessions, api_client: tuple[CurrentClient, str]) -> UUID:
    """A job that has just ended, with a transcript."""
    job_id = await add_job(sessions, api_client[0].id, [SUCCEEDED], finished_at=datetime.now(UTC))
    transcript = await store(sessions, api_client[0].id, sample("funasr_two_channels_synthetic"), job_id=job_id)
    async with transaction(sessions) as session:
        await session.execute(update(File).where(File.job_id == job_id).values(transcript_id=transcript.id))
    return job_id


async def link_of(api: httpx.AsyncClient, job_id: UUID) -> str:
    task = await fetch(api, str(job_id))
    url: str = task["output"]["results"][0]["transcription_url"]
    return url


def error_of(response: httpx.Response) -> tuple[int, str | None]:
    assert response.headers["content-type"] == "application/xml"
    return response.status_code, ET.fromstring(response.text).findtext("Code")  # noqa: S314 - our own


async def test_link_gives_upstreams_bytes_without_a_header(
    api: httpx.AsyncClient, stranger: httpx.AsyncClient, job_id: UUID
) -> None:
    link = await link_of(api, job_id)
    response = await stranger.get(link, headers={"Accept-Encoding": "identity"})
    assert response.content == sample("funasr_two_channels_synthetic")
    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-length"] == str(len(response.content))
    assert (await stranger.get(link)).content == response.content
    assert (await stranger.head(link)).status_code == 200
    assert link.startswith("http://gateway/api/v1/results/")


async def test_link_expires_a_day_after_the_end_of_the_job(api: httpx.AsyncClient, job_id: UUID) -> None:
    task = await fetch(api, str(job_id))
    link = task["output"]["results"][0]["transcription_url"]
    expires = datetime.fromtimestamp(int(parse_qs(urlsplit(link).query)["Expires"][0]), UTC)
    ended = datetime.fromisoformat(task["output"]["end_time"] + "+08:00")
    assert expires == (ended + timedelta(hours=24)).replace(microsecond=0)
    assert await link_of(api, job_id) == link


async def test_link_of_an_old_job_works_for_a_day(api: httpx.AsyncClient, sessions: Sessions, job_id: UUID) -> None:
    async with transaction(sessions) as session:
        await session.execute(update(Job).values(finished_at=datetime(2026, 1, 1, tzinfo=UTC)))
    link = await link_of(api, job_id)
    expires = int(parse_qs(urlsplit(link).query)["Expires"][0])
    assert expires - datetime.now(UTC).timestamp() == pytest.approx(24 * 3600, abs=60)


async def test_expired_link_is_an_error_of_the_object_store(
    api: httpx.AsyncClient, stranger: httpx.AsyncClient, job_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await link_of(api, job_id)
    # Not the function of the standard library, which measures the database's clock, too.
    monkeypatch.setattr("app.dashscope_api.links.time", SimpleNamespace(time=lambda: 2**33))
    response = await stranger.get(link)
    assert error_of(response) == (403, "AccessDenied")
    names = [element.tag for element in ET.fromstring(response.text)]  # noqa: S314 - our own
    assert names == ["Code", "Message", "RequestId", "HostId", "Expires", "ServerTime"]


@pytest.mark.parametrize(
    "change",
    [
        lambda link: link.replace("Expires=", "Expires=1"),
        lambda link: link.split("?")[0],
        lambda link: link.replace("Signature=", "Signature=A"),
        lambda link: f"{link.split('Signature')[0]}Signature=%ff%F0%9F%98%80",
        lambda link: link.replace("Expires=", "Expires=%D9%A1"),
        lambda link: link.replace("Expires=", "Expires=-"),
    ],
)
async def test_changed_link_is_refused(
    api: httpx.AsyncClient, stranger: httpx.AsyncClient, job_id: UUID, change: object
) -> None:
    link = await link_of(api, job_id)
    assert error_of(await stranger.get(change(link))) == (403, "SignatureDoesNotMatch")  # type: ignore[operator]


async def test_signature_is_valid_for_one_transcript_only(
    api: httpx.AsyncClient, stranger: httpx.AsyncClient, sessions: Sessions, job_id: UUID,
    api_client: tuple[CurrentClient, str],
) -> None:  # fmt: skip
    link = await link_of(api, job_id)
    other = await store(sessions, api_client[0].id)
    assert error_of(await stranger.get(f"/api/v1/results/{other.id}.json?{urlsplit(link).query}"))[0] == 403
    assert error_of(await stranger.get("/api/v1/results/nonsense.json")) == (404, "NoSuchKey")


async def test_link_ends_with_its_transcript_and_with_its_client(
    api: httpx.AsyncClient, stranger: httpx.AsyncClient, sessions: Sessions, job_id: UUID
) -> None:
    link = await link_of(api, job_id)
    async with transaction(sessions) as session:
        await revoke_client(session, "tester")
    assert error_of(await stranger.get(link)) == (403, "SignatureDoesNotMatch")


async def test_deleted_transcript_is_a_failed_file(
    api: httpx.AsyncClient, stranger: httpx.AsyncClient, sessions: Sessions, job_id: UUID
) -> None:
    link = await link_of(api, job_id)
    transcript_id = urlsplit(link).path.rpartition("/")[2].removesuffix(".json")
    assert (await api.delete(f"/v1/transcripts/{transcript_id}")).status_code == 204
    async with transaction(sessions) as session:
        assert await session.get(Transcript, UUID(transcript_id)) is None
    assert error_of(await stranger.get(link))[0] == 403
    output = (await fetch(api, str(job_id)))["output"]
    assert (output["task_status"], output["code"]) == ("FAILED", "InternalError")


async def test_public_url_takes_precedence_over_the_host(app: FastAPI, api: httpx.AsyncClient, job_id: UUID) -> None:
    app.state.settings = app.state.settings.model_copy(update={"public_url": "https://asr.example.com/gateway"})
    assert (await link_of(api, job_id)).startswith("https://asr.example.com/gateway/api/v1/results/")


async def test_forwarded_headers_do_not_change_the_link(api: httpx.AsyncClient, job_id: UUID) -> None:
    headers = {"X-Forwarded-Host": "evil.example.com", "Forwarded": "host=evil.example.com"}
    response = await api.get(f"/api/v1/tasks/{job_id}", headers=headers)
    assert "evil" not in response.text
