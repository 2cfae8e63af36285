"""The pause after wrong admin tokens, and the log lines of an audit."""

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from app.clients.wrong_tokens import MAX_WRONG, PAUSE_S, WrongTokens
from app.errors import TooManyWrongTokens
from tests.api_fixtures import ADMIN_TOKEN, caller

ADDRESS = "192.0.2.1"


def test_pause_begins_with_the_tenth_wrong_token_and_ends_after_a_minute() -> None:
    now = [0.0]
    wrong = WrongTokens(clock=lambda: now[0])
    for _ in range(MAX_WRONG):
        wrong.check(ADDRESS)
        wrong.count(ADDRESS)
    with pytest.raises(TooManyWrongTokens):
        wrong.check(ADDRESS)
    wrong.check("192.0.2.2")
    now[0] = PAUSE_S + 0.1
    wrong.check(ADDRESS)


def test_addresses_of_one_ipv6_network_are_counted_together() -> None:
    wrong = WrongTokens()
    for number in range(MAX_WRONG):
        wrong.count(f"2001:db8::{number:x}")
    with pytest.raises(TooManyWrongTokens):
        wrong.check("2001:db8::ffff")
    wrong.check("2001:db8:0:1::1")


async def test_guesses_are_logged_and_refused_also_a_right_one(app: FastAPI, stranger: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        for number in range(MAX_WRONG):
            guess = {"Authorization": f"Bearer guess-{number}"}
            assert (await stranger.get("/v1/clients", headers=guess)).status_code == 401
    refused = [line for line in logs if line["event"] == "admin token refused"]
    assert [line["peer"] for line in refused] == ["127.0.0.1"] * MAX_WRONG
    assert "guess" not in str(logs)
    async with caller(app, ADMIN_TOKEN) as admin:
        response = await admin.get("/v1/clients")
        assert (response.status_code, response.json()["code"]) == (429, "too_many_wrong_tokens")
        assert response.headers["retry-after"] == "60"


async def test_tokens_of_clients_do_not_count(api: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
    for _ in range(MAX_WRONG + 1):
        assert (await api.get("/v1/clients")).status_code == 403
    for _ in range(MAX_WRONG + 1):
        assert (await api.get("/v1/models", headers={"Authorization": "Bearer wrong"})).status_code == 401
    assert (await admin.get("/v1/clients")).status_code == 200
    assert (await api.get("/v1/models")).status_code == 200


async def test_changes_of_clients_and_secrets_are_logged(api: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        created = (await admin.post("/v1/clients", json={"name": "alice"})).json()
        secret = (await api.post("/v1/webhooks/secret/rotate")).json()["secret"]
        await admin.delete(f"/v1/clients/{created['id']}")
    lines = [line for line in logs if line["event"] != "request"]
    assert {line["log_level"] for line in lines} == {"info"}
    assert [line["event"] for line in lines] == ["client created", "webhook secret rotated", "client revoked"]
    assert (lines[0]["name"], lines[1]["client"], lines[2]["revoked"]) == ("alice", "tester", created["id"])
    assert created["token"] not in str(logs)
    assert secret not in str(logs)
