"""`python -m app doctor`: the findings and their advice."""

from collections.abc import Awaitable, Callable

import orjson
import pytest
from sqlalchemy import insert, text

from app.catalogue.hot_words import HotWord
from app.clients.models import Client
from app.dashscope.transport import http_client
from app.db import Sessions, transaction
from app.doctor import Finding, as_json, examine
from app.identifiers import new_id
from app.sandbox import RunningSandbox, SandboxConfig, running_sandbox
from app.sandbox.state import Vocabulary as SandboxVocabulary
from app.settings import Settings, load_settings
from app.vocabularies.lists import VocabularyLists
from app.vocabularies.service import NewVocabulary
from tests.api_fixtures import new_client
from tests.jobs.rows import add_job
from tests.poller.conftest import settings_for
from tests.processes import run, run_cold


async def report(database_url: str, **changes: str) -> dict[str, Finding]:
    async with running_sandbox(SandboxConfig()) as sandbox:
        settings = {
            "dashscope_beijing_api_key": "sk-sandbox-beijing",
            "dashscope_beijing_base_url": sandbox.base_url("beijing"),
            "dashscope_singapore_base_url": sandbox.base_url("singapore"),
            **changes,
        }
        return {finding.subject: finding for finding in await examine(load_settings(settings), database_url)}


async def test_a_sound_deployment_has_no_findings_but_ok(database_url: str) -> None:
    findings = await report(database_url)
    assert {finding.level for finding in findings.values()} == {"ok"}
    assert findings["key beijing/default"].detail == "accepted"


async def test_key_of_the_samples_is_reported_with_its_variable(database_url: str) -> None:
    keys = {"dashscope_beijing_api_key": None, "dashscope_api_key": "sk-sandbox-beijing"}
    findings = await report(database_url, **keys)  # type: ignore[arg-type]  # None: unset
    assert findings["key beijing/default"].detail == "accepted, from DASHSCOPE_API_KEY"


async def test_keys_are_tested_without_proxies_of_the_environment(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    findings = await report(database_url)
    assert findings["key beijing/default"].detail == "accepted"


async def test_a_key_of_the_other_region_is_recognised(database_url: str) -> None:
    findings = await report(database_url, dashscope_singapore_api_key="sk-sandbox-beijing")
    assert findings["key singapore/default"] == Finding(
        "error", "key singapore/default", "this key belongs to the other region, beijing"
    )
    assert findings["key beijing/default"].level == "ok"


async def test_a_refused_key_is_reported_without_showing_it(database_url: str) -> None:
    findings = await report(database_url, dashscope_beijing_api_key="good=sk-sandbox-beijing,bad=sk-secret-and-wrong")
    assert findings["key beijing/good"].level == "ok"
    assert findings["key beijing/bad"].detail.startswith("refused")
    assert "sk-secret" not in str(findings)


async def test_an_unreachable_upstream_is_reported(database_url: str) -> None:
    findings = await report(database_url, dashscope_beijing_base_url="http://127.0.0.1:9/api/v1")
    assert findings["key beijing/default"].level == "error"
    assert "ConnectError" in findings["key beijing/default"].detail


async def test_proxies_that_are_not_used_are_named_if_upstream_is_unreachable(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy.test:3128")
    monkeypatch.setenv("http_proxy", "http://user:secret@proxy.test:3128")
    settings = load_settings({"dashscope_beijing_api_key": "sk-a", "dashscope_beijing_base_url": "http://127.0.0.1:9"})
    [finding] = [each for each in await examine(settings, database_url) if each.subject == "key beijing/default"]
    assert finding.detail.endswith("; HTTPS_PROXY and http_proxy are set and not used")


async def test_a_missing_key_is_reported_with_the_variables_to_set(database_url: str) -> None:
    findings = await examine(Settings(), database_url)
    assert findings[-1].level == "error"
    assert "DASHSCOPE_BEIJING_API_KEY" in findings[-1].detail


async def test_an_unreachable_database_is_reported() -> None:
    findings = await examine(Settings(), "postgresql://nobody@127.0.0.1:9/none")
    assert findings[0].subject == "database"
    assert findings[0].level == "error"


async def test_open_circuits_and_learned_limits_are_reported(database_url: str, sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        await session.execute(
            text(
                "INSERT INTO circuits (account, model, code, message, probe_at) VALUES"
                " ('beijing/default', '', 'account_unpaid', 'Arrearage: pay', now()),"
                " ('beijing/default', 'fun-asr', 'model_not_granted', 'Model.AccessDenied', now()),"
                " ('beijing/removed', '', 'account_unpaid', 'Arrearage: pay', now())"
            )
        )
        await session.execute(text("INSERT INTO group_limits VALUES ('beijing/default', 'fun-asr', 1)"))
    findings = await report(database_url)
    assert findings["account beijing/default"].level == "error"
    assert "Arrearage" in findings["account beijing/default"].detail
    assert "Model.AccessDenied" in findings["account beijing/default fun-asr"].detail
    assert "account beijing/removed" not in findings
    assert "1 files per task" in findings["limit beijing/default fun-asr"].detail


async def test_files_waiting_in_a_region_without_a_key_are_reported(database_url: str, sessions: Sessions) -> None:
    client_id = new_id()
    async with transaction(sessions) as session:
        await session.execute(insert(Client).values(id=client_id, name="c", token_sha256=b"c"))
    await add_job(sessions, client_id, region="singapore", files=[{"status": "queued"}])
    finding = (await report(database_url))["queue singapore fun-asr"]
    assert finding.level == "error"
    assert "DASHSCOPE_SINGAPORE_API_KEY" in finding.detail


@pytest.mark.parametrize(
    ("start", "key", "code"), [(run_cold, "sk-sandbox-beijing", 0), (run, "sk-wrong-and-secret", 1)]
)
async def test_the_exit_code_of_the_command_tells_errors(
    database_url: str, start: Callable[..., Awaitable[tuple[int, str, str]]], key: str, code: int
) -> None:
    async with running_sandbox(SandboxConfig()) as sandbox:
        exit_code, out, err = await start(
            "doctor",
            DATABASE_URL=database_url,
            DASHSCOPE_BEIJING_API_KEY=key,
            DASHSCOPE_BEIJING_BASE_URL=sandbox.base_url("beijing"),
            DASHSCOPE_SINGAPORE_BASE_URL=sandbox.base_url("singapore"),
        )
    assert exit_code == code
    assert "key beijing/default" in out
    assert key not in out + err


@pytest.mark.parametrize(
    ("change", "level"),
    [
        ("UPDATE alembic_version SET version_num = 'of a later release'", "ok"),
        ("DROP TABLE alembic_version", "error"),
        ("DELETE FROM alembic_version", "error"),
    ],
)
async def test_a_newer_schema_is_accepted_and_a_missing_one_is_not(
    database_url: str, sessions: Sessions, change: str, level: str
) -> None:
    async with transaction(sessions) as session:
        await session.execute(text(change))
    findings = await examine(Settings(), database_url)
    assert [finding.level for finding in findings if finding.subject == "migrations"] == [level]


async def test_report_for_programs_has_the_same_findings(database_url: str) -> None:
    findings = list((await report(database_url, dashscope_singapore_api_key="sk-sandbox-beijing")).values())
    body = orjson.loads(as_json(findings))
    assert body["ok"] is False
    assert [(each["level"], each["subject"], each["detail"]) for each in body["findings"]] == [
        (finding.level, finding.subject, finding.detail) for finding in findings
    ]
    expected = {"clock", "database", "key", "migrations", "protocol", "vocabularies"}
    assert {each["check"] for each in body["findings"]} == expected


async def test_submits_that_stay_unsure_are_a_warning(database_url: str, sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        await session.execute(
            text(
                "INSERT INTO tasks (id, account, region, model, parameters, file_count, state, lost_at) VALUES"
                " (gen_random_uuid(), 'beijing/default', 'beijing', 'fun-asr', '{}', 1, 'unsure',"
                " now() - interval '2 minutes')"
            )
        )
    finding = (await report(database_url))["tasks beijing/default"]
    assert finding.level == "warning"
    assert finding.detail.startswith("1 submits without a response")


async def test_hot_word_lists_of_each_account_are_counted(database_url: str, sessions: Sessions) -> None:
    """A list that no client can see is named, since it counts for the account's limit."""
    async with running_sandbox(SandboxConfig()) as sandbox, http_client() as http:
        settings = settings_for(sandbox, dashscope_singapore_api_key=None)
        lists = VocabularyLists(settings, sessions, http)
        client_id = (await new_client(sessions, "tester"))[0].id
        words = [{"text": "word", "weight": 4}]
        created = await lists.create(NewVocabulary(client_id, ["beijing"], "fun-asr", "own", words))
        unknown = await lists.upstreams["beijing/default"].create_vocabulary(
            target_model="fun-asr", prefix="other", words=[HotWord("word", 4)]
        )
        async with transaction(sessions) as session:
            await session.execute(text("UPDATE clients SET revoked_at = now()"))
        finding = {each.subject: each for each in await examine(settings, database_url)}["vocabularies beijing/default"]
        assert finding.level == "ok"
        assert finding.detail.startswith("2 of 10 lists used, 8 left; 1 of them unknown to the gateway: ")
        assert str(unknown) in finding.detail
        assert "1 of revoked clients" in finding.detail
        sandbox.state.vocabularies = {f"vocab-x-{n}": list_of(sandbox, f"vocab-x-{n}") for n in range(10)}
        finding = {each.subject: each for each in await examine(settings, database_url)}["vocabularies beijing/default"]
        assert finding.level == "warning"
        assert str(created.vocabulary_id) in finding.detail
        assert finding.detail.startswith("10 of 10 lists used, 0 left")


def list_of(sandbox: RunningSandbox, vocabulary_id: str) -> SandboxVocabulary:
    return SandboxVocabulary("beijing/main", vocabulary_id, "fun-asr", [], sandbox.state.now(), sandbox.state.now())
