"""The commands, as real processes with real signals and ports."""

import asyncio
import json
import re
import signal
import socket
import stat
from pathlib import Path

import asyncpg
import httpx
import pytest
from typer.testing import CliRunner

from app import __version__
from app.__main__ import cli
from tests.database_proxy import database_proxy
from tests.processes import kill_postgres, run, run_cold, running, running_cold

KEY = "sk-0123456789abcdef0123456789abcdef"
TOKEN = "a-token-of-the-test"
# Nothing listens on port 1: jobs stay queued.
AWAY = {"DASHSCOPE_BEIJING_API_KEY": KEY, "DASHSCOPE_BEIJING_BASE_URL": "http://127.0.0.1:1/api/v1"}
COMMANDS = [
    ["serve"],
    ["api"],
    ["poller"],
    ["migrate"],
    ["bench"],
    ["doctor"],
    ["certify"],
    ["sandbox"],
    ["demo"],
    ["backup"],
    ["restore"],
    ["fail-waiting"],
    ["clients"],
    ["clients", "budget"],
    ["clients", "create"],
    ["clients", "list"],
    ["clients", "revoke"],
]


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_every_command_has_help(command: list[str]) -> None:
    result = CliRunner().invoke(cli, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


async def test_help_needs_no_database_and_no_settings() -> None:
    code, out, err = await run_cold("--help", PORT="nonsense", DATABASE_URL="nonsense")
    assert (code, err) == (0, "")
    for command in COMMANDS:
        assert command[0] in out


@pytest.mark.parametrize("command", ["serve", "api", "poller", "migrate"])
async def test_an_invalid_setting_stops_the_start_with_one_line(command: str) -> None:
    code, out, err = await run(command, PORT="eighty")
    assert (code, out) == (2, "")
    assert err.startswith("PORT got 'eighty', needs")
    assert err.count("\n") == 1


async def test_a_port_in_use_stops_the_start_with_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for command in (["serve"], ["api"], ["sandbox", "--port", str(port)]):
            code, out, err = await run(*command, PORT=str(port))
            assert (code, out) == (1, "")
            assert str(port) in err
            assert err.count("\n") == 1


async def test_an_unreachable_database_is_reported_in_one_line_without_its_password() -> None:
    code, out, err = await run_cold("clients", "list", DATABASE_URL="postgresql://asr:hunter2hunter2@127.0.0.1:1/asr")
    assert (code, out) == (1, "")
    assert err.startswith("The database at 127.0.0.1:1/asr cannot be reached: ")
    assert err.count("\n") == 1
    assert "hunter2" not in err


async def test_serve_starts_on_an_empty_folder_and_shares_it_with_other_commands(data_dir: Path) -> None:
    own = {"DATA_DIR": str(data_dir)}
    async with running("serve", PORT="0", **own, **AWAY) as gateway:
        url = await gateway.url()
        token = gateway.stdout.split()[-1]
        assert _get(f"{url}/v1/models", token) == 200
        assert _read_private(data_dir / "api_token") == f"{token}\n"

        code, out, _ = await run("clients", "create", "billing", "--budget", "100", "CNY", "month", **own)
        assert code == 0
        assert _get(f"{url}/v1/models", out.split()[-1]) == 200
        code, _, err = await run("clients", "create", "billing", **own)
        assert (code, err.count("\n")) == (1, 1)
        assert re.search("billing .* 100 CNY a month", (await run("clients", "list", **own))[1])
        code, _, err = await run("clients", "budget", "billing", "100", "EUR", "month", **own)
        assert (code, "one of the currencies CNY, USD" in err) == (2, True), err
        code, changed, err = await run("clients", "budget", "billing", "--none", **own)
        assert (code, changed) == (0, "The client billing has no budget.\n"), err
        assert (await run("clients", "revoke", "billing", **own))[0] == 0
        code, revoked, _ = await run("clients", "revoke", "billing", "--cancel-jobs", "--delete-vocabularies", **own)
        assert (code, revoked.partition("\n")) == (
            0,
            ("The token of the client billing is revoked.", "\n", "Jobs canceled: 0.\nHot-word lists deleted: 0.\n"),
        )
        assert _get(f"{url}/v1/models", out.split()[-1]) == 401

        async with running("serve", PORT="0", **own, **AWAY) as second:
            assert _get(f"{await second.url()}/v1/models", token) == 200
            assert token not in second.stdout
            assert str(data_dir / "api_token") in second.stdout
            assert await second.stop(signal.SIGINT) == 0

        assert _get(f"{url}/readyz", token) == 200
        assert await gateway.stop() == 0
        assert token not in gateway.stderr
        assert KEY not in gateway.stderr
    assert "postmaster.pid" not in _names(data_dir / "postgres")


async def test_serve_restarts_its_embedded_database(used_data_dir: Path) -> None:
    async with running("serve", DATA_DIR=str(used_data_dir), PORT="0", API_TOKEN=TOKEN, **AWAY) as serve:
        url = await serve.url()
        async with httpx.AsyncClient(base_url=url) as client:
            kill_postgres(used_data_dir)
            await serve.line_with("restarting")
            assert (await client.get("/readyz")).status_code in {200, 503}
            for _ in range(300):
                if (await client.get("/readyz")).status_code == 200:
                    break
                await asyncio.sleep(0.1)
            else:
                pytest.fail("the database did not come back")
        assert await serve.stop() == 0


async def test_a_revoked_default_token_stays_revoked_and_the_next_start_has_a_new_one(
    data_dir: Path, database_url: str
) -> None:
    own = {"DATA_DIR": str(data_dir), "DATABASE_URL": database_url, **AWAY}
    async with running("serve", PORT="0", **own) as first:
        job_url, leaked = await first.url(), first.stdout.split()[-1]
        assert (await run("clients", "revoke", "default", **own))[0] == 0
        assert _get(f"{job_url}/v1/models", leaked) == 401
        assert await first.stop() == 0
    async with running("serve", PORT="0", **own) as second:
        url, token = await second.url(), second.stdout.split()[-1]
        assert "shown only once" in second.stdout
        assert (_get(f"{url}/v1/models", leaked), _get(f"{url}/v1/models", token)) == (401, 200)
        assert _read_private(data_dir / "api_token") == f"{token}\n"
    for role in ("serve", "api"):
        code, out, err = await run(role, PORT="0", API_TOKEN=leaked, **own)
        assert (code, out) == (1, "")
        assert "API_TOKEN is a revoked token; set a new value.\n" in err
        assert leaked not in err
        assert "Traceback" not in err


async def test_serve_survives_kill_9_of_everything(used_data_dir: Path) -> None:
    settings = {"DATA_DIR": str(used_data_dir), "PORT": "0", "API_TOKEN": TOKEN, **AWAY}
    async with running("serve", **settings) as gateway:
        job = _post_job(await gateway.url())
        gateway.process.kill()
        await gateway.ended()
        kill_postgres(used_data_dir)
    async with running("serve", **settings) as gateway:
        assert _get(f"{await gateway.url()}{job}", TOKEN) == 200
        assert await gateway.stop() == 0


async def test_files_that_other_users_can_read_cause_a_warning(database_url: str, used_data_dir: Path) -> None:
    for name, mode, warnings in ((".env", 0o644, 1), (".env", 0o640, 0), (".env", 0o600, 0)):
        _write(Path(name), mode)
        async with running("poller", "--port", "0", DATABASE_URL=database_url, DATA_DIR="/", **AWAY) as poller:
            await poller.url()
        assert poller.stderr.count("other users of this machine can read .env: chmod 600 .env") == warnings
        assert poller.stderr.count("other users") == warnings
    _make_public(used_data_dir)
    async with running("serve", PORT="0", DATA_DIR=str(used_data_dir), **AWAY) as gateway:
        await gateway.url()
        assert await gateway.stop() == 0
    assert f"can read {used_data_dir}: chmod o-rwx {used_data_dir}" in gateway.stderr


async def test_serve_without_a_key_says_which_variables_to_set(database_url: str) -> None:
    async with running_cold("serve", PORT="0", DATABASE_URL=database_url) as gateway:
        assert "DASHSCOPE_BEIJING_API_KEY" in await gateway.line_with("no region has a key")
        assert _get(f"{await gateway.url()}/readyz", "") == 200


async def test_serve_ends_long_polls_and_event_streams_on_sigterm(database_url: str) -> None:
    async with running("serve", PORT="0", DATABASE_URL=database_url, API_TOKEN=TOKEN, **AWAY) as gateway:
        url = await gateway.url()
        async with httpx.AsyncClient(base_url=url, headers=_auth(TOKEN), timeout=30) as client:
            body = {"file_urls": ["https://example.com/a.wav"]}
            waiting = asyncio.create_task(client.post("/v1/jobs", params={"wait": 60}, json=body))
            # The job can be seen: now the other request is waiting for it.
            while not (await client.get("/v1/jobs")).json()["items"]:
                pass
            job_id = (await client.get("/v1/jobs")).json()["items"][0]["id"]
            async with client.stream("GET", f"/v1/jobs/{job_id}/events") as watching:
                received = watching.aiter_lines()
                while "event: job" not in await anext(received):
                    pass
                gateway.process.send_signal(signal.SIGTERM)
                response = await waiting
                assert "event: job" not in [line async for line in received]
        assert (response.status_code, response.json()["status"]) == (202, "queued")
        assert await gateway.ended() == 0


async def test_serve_survives_a_schema_that_its_poller_cannot_use(database_url: str) -> None:
    async with running("serve", PORT="0", DATABASE_URL=database_url, **AWAY) as gateway:
        url = await gateway.url()
        connection = await asyncpg.connect(database_url)  # type: ignore[no-untyped-call]
        await connection.execute("ALTER TABLE files RENAME TO gone")
        assert "Traceback" in await gateway.line_with("round failed")
        await connection.execute("ALTER TABLE gone RENAME TO files")
        await connection.close()
        assert _get(f"{url}/readyz") == 200
        assert await gateway.stop() == 0


async def test_api_starts_without_a_database_and_recovers(database_url: str) -> None:
    async with database_proxy(database_url) as proxy:
        await proxy.stop()
        async with running_cold("api", PORT="0", DATABASE_URL=proxy.url, API_TOKEN=TOKEN) as api:
            url = await api.url()
            assert (_get(f"{url}/livez"), _get(f"{url}/readyz")) == (200, 503)
            await api.line_with("waits for the database")
            await proxy.start()
            async with asyncio.timeout(10), httpx.AsyncClient(base_url=url, headers=_auth(TOKEN)) as client:
                while (await client.get("/readyz")).status_code != 200:
                    pass
                while (await client.get("/v1/models")).status_code != 200:
                    pass
            assert await api.stop() == 0


async def test_poller_waits_for_the_migrations_and_serves_health_routes(server_url: str, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)  # type: ignore[no-untyped-call]
    await connection.execute("ALTER TABLE alembic_version RENAME TO later")
    async with running_cold("poller", "--port", "0", DATABASE_URL=database_url, **AWAY) as poller:
        await poller.line_with("python -m app migrate")
        await connection.execute("ALTER TABLE later RENAME TO alembic_version")
        await connection.close()
        url = await poller.url()
        assert _get(f"{url}/livez") == 200
        assert _get(f"{url}/readyz") == 200
        assert _openmetrics(url).endswith("# EOF\n")
        assert await poller.stop() == 0


async def test_migrate_check_finds_undeclared_columns(database_url: str) -> None:
    assert (await run_cold("migrate", "--check", DATABASE_URL=database_url))[0] == 0
    connection = await asyncpg.connect(database_url)  # type: ignore[no-untyped-call]
    await connection.execute("ALTER TABLE jobs ADD COLUMN forgotten text")
    await connection.close()
    code, _, err = await run("migrate", "--check", DATABASE_URL=database_url)
    assert (code, err.count("\n")) == (1, 1)
    assert "forgotten" in err


async def test_sandbox_prints_the_settings_of_a_gateway() -> None:
    async with running_cold("sandbox", "--port", "0", "--results-port", "0") as sandbox:
        line = await sandbox.line_with("DASHSCOPE_SINGAPORE_BASE_URL=")
        url = line.strip().partition("=")[2]
        assert _get(f"{url}/tasks", "sk-sandbox-singapore") == 200
        assert await sandbox.stop() == 0


async def test_sandbox_names_the_address_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = await run("sandbox", "--port", "0", "--results-port", str(port))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"The sandbox cannot listen on 127.0.0.1:{port}: Address already in use;")


async def test_serve_runs_the_sandbox_beside_the_gateway_and_uses_no_key(data_dir: Path, database_url: str) -> None:
    real = {
        "DASHSCOPE_BEIJING_API_KEY": "sk-a-real-key-of-dashscope",
        "DASHSCOPE_BEIJING_BASE_URL": "http://127.0.0.1:9/",
    }
    own = {"DATA_DIR": str(data_dir), "DATABASE_URL": database_url, "PORT": "0", "API_TOKEN": TOKEN}
    async with running("serve", "--sandbox", "--sandbox-port", "0", **own, **real) as gateway:
        url = await gateway.url()
        body = {"file_urls": ["https://example.com/a.wav", "https://example.com/b.wav?sandbox=fail:DECODE_ERROR"]}
        async with httpx.AsyncClient(base_url=url, headers=_auth(TOKEN), timeout=40) as api:
            response = await api.post("/v1/jobs?wait=30", json=body)
        job = response.json()
        assert job["status"] == "partial"
        assert {file["upstream"]["account"] for file in job["files"]} == {"sandbox"}
        events = [json.loads(line) for line in gateway.stderr.splitlines()]
        (created,) = [event for event in events if event["event"] == "job created"]
        assert created["request_id"] == response.headers["X-Request-ID"]
        assert (created["job"], created["client"]) == (job["id"], "default")
        (sandbox,) = re.findall(r"DashScope is simulated at (\S+):", gateway.stdout)
        assert _get(f"{sandbox}/control/stats", "") == 200
        assert await gateway.stop() == 0


async def test_version_is_printed() -> None:
    assert await run_cold("--version") == (0, f"asr-gateway {__version__}\n", "")


async def test_demo_prints_both_transcripts_as_text_and_srt_and_shows_the_other_families() -> None:
    code, out, err = await run_cold("demo")
    assert (code, err) == (0, "")
    assert out.count("hello_world_female2.wav") == out.count("hello_world_male2.wav") == 2
    assert out.count("Hello World，这里是阿里巴巴语音实验室。") >= 4  # the sandbox invents the text of the local file
    assert "00:00:00,760 --> 00:00:03,240" in out
    assert "00:00:00,680 --> 00:00:04,480" in out
    assert "Hello word, 这里是阿里巴巴语音实验室。" in out
    assert "tone.wav, a local file" in out
    assert "ANGRY, Speech: Senior staff, Principal Doris Jackson" in out
    assert _names(Path()) == set()


def _post_job(url: str) -> str:
    response = httpx.post(f"{url}/v1/jobs", headers=_auth(TOKEN), json={"file_urls": ["https://example.com/a.wav"]})
    assert response.status_code == 202, json.dumps(response.json())
    return response.headers["Location"]


def _write(path: Path, mode: int) -> None:
    path.write_text("")
    path.chmod(mode)


def _make_public(folder: Path) -> None:
    folder.chmod(0o755)


def _read_private(path: Path) -> str:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return path.read_text()


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _get(url: str, token: str = "") -> int:
    return httpx.get(url, headers=_auth(token) if token else {}).status_code


def _openmetrics(url: str) -> str:
    return httpx.get(f"{url}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}).text


def _auth(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
