"""Messages of commands that cannot connect to the database."""

import asyncio
import shutil
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from app.server.startup import StartError, open_database
from app.settings import load_settings
from tests.processes import run, running
from tests.test_outages import ROLE_PASSWORD, as_user

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


@asynccontextmanager
async def tls_server(folder: Path) -> AsyncIterator[str]:
    """The URL of a server that accepts PostgreSQL's request for TLS and has a self-signed certificate."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)  # noqa: ASYNC221 - nothing else runs yet
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    other = folder / "other.pem"
    subprocess.run([*command, "-keyout", str(folder / "k.pem"), "-out", str(other)], check=True, capture_output=True)  # noqa: ASYNC221

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(8)
            writer.write(b"S")
            await writer.drain()
            await writer.start_tls(context)
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield f"postgresql://u:secret@localhost:{port}/x?sslmode=verify-full&sslrootcert={other}"


@needs_openssl
async def test_an_untrusted_certificate_is_reported(
    tmp_path: Path,
) -> None:
    async with tls_server(tmp_path) as url:
        code, out, _ = await run("doctor", DATABASE_URL=url)
        assert code == 1
        assert (
            "cannot be reached over TLS: the server's TLS certificate is not accepted: self-signed certificate" in out
        )
        settings = load_settings({"database_url": url})
        with pytest.raises(StartError, match=r"self-signed certificate \(see sslmode and sslrootcert in DATABASE_URL"):
            await asyncio.to_thread(open_database, settings, patience_s=0)


@needs_openssl
async def test_the_start_waits_for_a_trusted_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[float] = []
    monkeypatch.setattr("app.server.startup.time.sleep", tries.append)
    async with tls_server(tmp_path) as url:
        with pytest.raises(StartError, match=r"waited 0\.2 s"):
            await asyncio.to_thread(open_database, load_settings({"database_url": url}), patience_s=0.2)
    assert tries


async def test_a_full_server_is_reported_with_the_setting_of_the_pool_size(database_url: str) -> None:
    owner = await asyncpg.connect(database_url)  # type: ignore[no-untyped-call]
    await owner.execute(f"CREATE ROLE full_server LOGIN PASSWORD '{ROLE_PASSWORD}' CONNECTION LIMIT 0")
    try:
        settings = load_settings({"database_url": as_user(database_url, "full_server"), "database_pool_size": "7"})
        with pytest.raises(StartError, match=r"too many connections.* up to 7 connections; lower DATABASE_POOL_SIZE"):
            await asyncio.to_thread(open_database, settings, patience_s=0)
    finally:
        await owner.execute("DROP ROLE full_server")
        await owner.close()


async def test_a_refused_login_stops_the_start_with_the_message_of_the_server(database_url: str) -> None:
    code, _, err = await run("migrate", DATABASE_URL=as_user(database_url, "stranger"))
    assert code == 2
    assert err.count("\n") == 1
    assert 'password authentication failed for user "stranger"' in err


async def test_a_migration_without_the_right_to_create_tables_names_the_grant(database_url: str) -> None:
    owner = await asyncpg.connect(database_url)  # type: ignore[no-untyped-call]
    await owner.execute(f"CREATE ROLE no_tables LOGIN PASSWORD '{ROLE_PASSWORD}'; CREATE SCHEMA closed")
    await owner.execute("ALTER ROLE no_tables SET search_path = closed; GRANT USAGE ON SCHEMA closed TO no_tables")
    try:
        code, _, err = await run("migrate", DATABASE_URL=as_user(database_url, "no_tables"))
        assert code == 1
        assert err.count("\n") == 1
        assert "permission denied for schema closed" in err
        assert "GRANT USAGE, CREATE ON SCHEMA closed TO the user of DATABASE_URL" in err
    finally:
        await owner.execute("DROP OWNED BY no_tables; DROP ROLE no_tables; DROP SCHEMA closed")
        await owner.close()


@pytest.mark.parametrize("command", ["serve", "poller"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_during_the_start_is_an_orderly_end(command: str, number: signal.Signals) -> None:
    async with running(command, PORT="0", DATABASE_URL="postgresql://asr@127.0.0.1:9/asr") as process:
        await process.line_with('"waiting"')
        assert await process.stop(number) == 0
    assert "Traceback" not in process.stderr
