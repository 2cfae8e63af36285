"""The API key is sent to the account's base URL only. No repr, outcome, exception or log line contains it."""

import asyncio
import logging
import traceback
from dataclasses import replace

import httpx
import pytest
from pydantic import SecretStr

from app.dashscope.client import DashScope
from app.dashscope.failures import Failure
from app.logs import redact
from app.settings import Account, load_settings
from tests.dashscope.conftest import KEY
from tests.dashscope.hostile import HostileServer, drop, error, html, json, raw, response, silence
from tests.dashscope.test_client import OK, submit

ECHOES = {
    "key in a message": error(401, "InvalidApiKey", f"Incorrect API key provided: {KEY}."),
    "key in a code": error(400, f"Bad.{KEY}"),
    "key in a 200": error(200, KEY, f"Authorization: Bearer {KEY}"),
    "key in a page": response(502, f"<html>{KEY}</html>".encode()),
    "key in a header": json(403, {"code": "AccessDenied", "message": "why"}, f"Location: http://x/?{KEY}"),
    "key in a broken head": raw(f"HTTP/1.1 abc Bearer {KEY}\r\n\r\n".encode()),
    "key in a broken header": raw(f"HTTP/1.1 200 OK\r\nX\x00: {KEY}\r\n\r\n".encode()),
    "dropped": drop,
    "page": html(404),
    "fine": OK,
}


@pytest.mark.parametrize("script", ECHOES)
async def test_outcomes_and_logs_do_not_contain_the_key(
    client: DashScope, server: HostileServer, caplog: pytest.LogCaptureFixture, script: str
) -> None:
    caplog.set_level(logging.DEBUG)
    server.play(ECHOES[script])

    outcomes = [await submit(client), await client.query("a"), await client.list_tasks(), await client.cancel("a")]

    assert server.last.header("Authorization") == [f"Bearer {KEY}"]
    assert KEY not in f"{outcomes!r} {outcomes!s} {caplog.text}"
    assert KEY not in "".join(str(vars(record)) for record in caplog.records)


async def test_failure_names_the_exception_only(client: DashScope, server: HostileServer) -> None:
    server.play(drop)

    failure = await client.query("a")

    assert isinstance(failure, Failure)
    assert failure.message == "no response (ConnectionBroken)"


def test_string_forms_do_not_contain_the_key(client: DashScope, account: Account, http: httpx.AsyncClient) -> None:
    settings = load_settings({"dashscope_beijing_api_key": f"one={KEY},two={KEY}2"})
    objects = [client, account, replace(account, name="x"), settings, settings.served_regions, http]

    for each in objects:
        assert KEY not in f"{each!r} {each!s}"
        assert KEY not in redact(repr(getattr(each, "__dict__", "")))
    assert KEY not in repr(vars(client))
    assert KEY not in settings.model_dump_json()


async def test_traceback_of_a_canceled_call_does_not_contain_the_key(client: DashScope, server: HostileServer) -> None:
    server.play(silence)
    call = asyncio.create_task(client.query("a"))
    await server.heard.wait()
    call.cancel()

    with pytest.raises(asyncio.CancelledError) as caught:
        await call

    assert KEY not in "".join(traceback.format_exception(caught.value))


async def test_each_account_sends_its_own_key(server: HostileServer, http: httpx.AsyncClient) -> None:
    server.play(OK)
    clients = [
        DashScope(Account("beijing", name, SecretStr(f"sk-{name}")), server.base_url, http) for name in ("one", "two")
    ]

    await asyncio.gather(*(client.query("a") for client in clients * 5))

    sent = [received.header("Authorization") for received in server.received]
    assert sorted(sent) == [["Bearer sk-one"]] * 5 + [["Bearer sk-two"]] * 5
