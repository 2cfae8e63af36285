"""`python -m app certify` as a process, and its traces in `doctor`."""

import asyncio
import signal
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from app.certify.certificate import FILE_NAME, CertifiedCheck, read_certificates, summary, write_certificate
from app.certify.checks import CHECKS
from app.doctor import examine
from app.sandbox import SandboxConfig
from app.sandbox import running_sandbox as serving_sandbox
from tests.certify.runs import settings
from tests.processes import PATIENCE_S, run, run_cold, running, running_sandbox

pytestmark = pytest.mark.slow


async def test_the_unbroken_sandbox_is_certified(tmp_path: Path) -> None:
    record = tmp_path / "record"
    async with running_sandbox() as upstream:
        code, out, err = await run(
            "certify", "--region", "beijing", "--record", str(record), DATA_DIR=str(tmp_path), **upstream
        )
    assert (code, err) == (0, "")
    lines = [line.split(maxsplit=2) for line in out.splitlines()]
    assert [name for _, name, _ in lines] == [check.name for check in CHECKS]
    assert {name for verdict, name, _ in lines if verdict != "ok"} == {"throttling", "retry_after"}
    assert all(seen.startswith("beijing: ") for _, _, seen in lines)
    assert "sk-sandbox" not in out + record.read_text()
    assert len(record.read_text().splitlines()) > 50
    certificate = read_certificates(tmp_path)["beijing"]
    base_url = upstream["DASHSCOPE_BEIJING_BASE_URL"]
    assert (certificate.account, certificate.base_url) == ("beijing/default", base_url)
    assert summary(certificate, base_url) == f"certified {datetime.now(UTC):%F}: none differ"
    assert summary(certificate, "https://dashscope.aliyuncs.com/api/v1") == "never certified"


@pytest.mark.parametrize(
    ("options", "variables", "message"),
    [
        ((), {}, "DASHSCOPE_BEIJING_API_KEY is not set, needs "),
        (("--region", "singapore"), {"DASHSCOPE_BEIJING_API_KEY": "sk-1"}, "DASHSCOPE_SINGAPORE_API_KEY is not set"),
        (("--record", "/none/record"), {"DASHSCOPE_BEIJING_API_KEY": "sk-1"}, "--record got /none/record, needs "),
    ],
)
async def test_wrong_settings_end_with_one_line(
    options: tuple[str, ...], variables: dict[str, str], message: str
) -> None:
    code, out, err = await run("certify", *options, **variables)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(message)


async def test_a_refused_key_ends_with_one_line(tmp_path: Path) -> None:
    async with running_sandbox() as upstream:
        changed = upstream | {"DASHSCOPE_BEIJING_API_KEY": "sk-wrong-and-secret", "DATA_DIR": str(tmp_path)}
        code, out, err = await run_cold("certify", "--region", "beijing", **changed)
    assert (code, out) == (1, "")
    assert err == "The key of beijing/default is refused: HTTP 401 InvalidApiKey Invalid API-key provided.\n"


async def test_doctor_shows_what_differs(database_url: str, tmp_path: Path) -> None:
    configured = settings(data_dir=str(tmp_path))
    base_url = configured.served_regions["beijing"].base_url
    findings = [
        CertifiedCheck("list_lag", "correctness", "differs", "not listed"),
        CertifiedCheck("retry_after", "information", "differs", "Retry-After: 1"),
        CertifiedCheck("quotas", "information", "unknown", "not reached"),
    ]
    write_certificate(tmp_path, "beijing", account="beijing/default", base_url=base_url, version="1", checks=findings)
    shown = {each.subject: each for each in await examine(configured, database_url)}
    today = f"{datetime.now(UTC):%F}"
    assert shown["protocol beijing"].detail == f"certified {today}: 2 differ (list_lag, retry_after)"
    assert shown["protocol beijing"].level == "warning"
    assert (shown["protocol singapore"].level, shown["protocol singapore"].detail) == ("ok", "never certified")


def test_the_certificates_of_other_regions_are_kept(tmp_path: Path) -> None:
    for region in ("beijing", "singapore"):
        write_certificate(tmp_path, region, account="a", base_url="b", version="1", checks=[])
    assert set(orjson.loads((tmp_path / FILE_NAME).read_bytes())) == {"beijing", "singapore"}
    (tmp_path / FILE_NAME).write_text("{")
    assert read_certificates(tmp_path) == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_cancels_what_still_waits(tmp_path: Path, number: signal.Signals) -> None:
    async with serving_sandbox(SandboxConfig(queue_s=600)) as upstream:
        variables = upstream.settings | {"DATA_DIR": str(tmp_path)}
        async with running("certify", "--region", "beijing", **variables) as certify, asyncio.timeout(PATIENCE_S):
            # After a second submit certify knows the id of the first task.
            while len(upstream.state.tasks) < 2:
                assert certify.process.returncode is None, certify.stderr
                await asyncio.sleep(0.05)
            assert await certify.stop(number) != 0
        *known, _last = upstream.state.tasks.values()  # the response to the last submit may have been lost
        assert known
        assert all(task.canceled_at is not None for task in known)
        assert "Traceback" not in certify.stderr
