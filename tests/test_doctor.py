"""`python -m app doctor`: what is wrong, said so that it can be mended."""

import pytest
from sqlalchemy import insert, text

from app.clients.models import Client
from app.db import Sessions, transaction
from app.doctor import Finding, examine
from app.identifiers import new_id
from app.sandbox import SandboxConfig, running_sandbox
from app.settings import Settings, load_settings
from tests.jobs.rows import add_job
from tests.processes import run


async def report(database_url: str, **changes: str) -> dict[str, Finding]:
    async with running_sandbox(SandboxConfig()) as sandbox:
        settings = {
            "dashscope_beijing_api_key": "sk-sandbox-beijing",
            "dashscope_beijing_base_url": sandbox.base_url("beijing"),
            "dashscope_singapore_base_url": sandbox.base_url("singapore"),
            **changes,
        }
        return {finding.subject: finding for finding in await examine(load_settings(settings), database_url)}


async def test_all_is_well(database_url: str) -> None:
    findings = await report(database_url)
    assert {finding.level for finding in findings.values()} == {"ok"}
    assert findings["key beijing/default"].detail == "accepted"


async def test_keys_are_tried_the_way_the_gateway_calls_without_proxies(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    findings = await report(database_url)
    assert findings["key beijing/default"].detail == "accepted"


async def test_a_key_of_the_other_region_is_told(database_url: str) -> None:
    findings = await report(database_url, dashscope_singapore_api_key="sk-sandbox-beijing")
    assert findings["key singapore/default"] == Finding(
        "trouble", "key singapore/default", "this key belongs to the other region, beijing"
    )
    assert findings["key beijing/default"].level == "ok"


async def test_a_refused_key_is_told_without_showing_it(database_url: str) -> None:
    findings = await report(database_url, dashscope_beijing_api_key="good=sk-sandbox-beijing,bad=sk-secret-and-wrong")
    assert findings["key beijing/good"].level == "ok"
    assert findings["key beijing/bad"].detail.startswith("refused")
    assert "sk-secret" not in str(findings)


async def test_an_upstream_that_is_away_is_told(database_url: str) -> None:
    findings = await report(database_url, dashscope_beijing_base_url="http://127.0.0.1:9/api/v1")
    assert findings["key beijing/default"].level == "trouble"
    assert "ConnectError" in findings["key beijing/default"].detail


async def test_no_key_at_all_is_told_with_the_variables_to_set(database_url: str) -> None:
    findings = await examine(Settings(), database_url)
    assert findings[-1].level == "trouble"
    assert "DASHSCOPE_BEIJING_API_KEY" in findings[-1].detail


async def test_a_database_that_is_away_is_told() -> None:
    findings = await examine(Settings(), "postgresql://nobody@127.0.0.1:9/none")
    assert findings[0].subject == "database"
    assert findings[0].level == "trouble"


async def test_open_circuits_learnt_limits_and_waiting_files_are_told(database_url: str, sessions: Sessions) -> None:
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
    assert findings["account beijing/default"].level == "trouble"
    assert "Arrearage" in findings["account beijing/default"].detail
    assert "Model.AccessDenied" in findings["account beijing/default fun-asr"].detail
    assert "account beijing/removed" not in findings
    assert "1 files a task" in findings["limit beijing/default fun-asr"].detail


async def test_files_that_wait_in_a_region_without_a_key_are_told(database_url: str, sessions: Sessions) -> None:
    client_id = new_id()
    async with transaction(sessions) as session:
        await session.execute(insert(Client).values(id=client_id, name="c", token_sha256=b"c"))
    await add_job(sessions, client_id, region="singapore", files=[{"status": "queued"}])
    finding = (await report(database_url))["queue singapore fun-asr"]
    assert finding.level == "trouble"
    assert "DASHSCOPE_SINGAPORE_API_KEY" in finding.detail


@pytest.mark.parametrize(("key", "code"), [("sk-sandbox-beijing", 0), ("sk-wrong-and-secret", 1)])
async def test_the_command_says_so_and_exits_accordingly(database_url: str, key: str, code: int) -> None:
    async with running_sandbox(SandboxConfig()) as sandbox:
        exit_code, out, err = await run(
            "doctor",
            DATABASE_URL=database_url,
            DASHSCOPE_BEIJING_API_KEY=key,
            DASHSCOPE_BEIJING_BASE_URL=sandbox.base_url("beijing"),
            DASHSCOPE_SINGAPORE_BASE_URL=sandbox.base_url("singapore"),
        )
    assert exit_code == code
    assert "key beijing/default" in out
    assert key not in out + err
