"""The budget of a client over `/v1/clients`."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.clients.service import CurrentClient

BUDGET = {"amount": "100.00", "currency": "CNY", "period": "month"}


async def test_a_client_has_no_budget_unless_it_is_given_one(admin: httpx.AsyncClient) -> None:
    plain = (await admin.post("/v1/clients", json={"name": "plain"})).json()
    limited = (await admin.post("/v1/clients", json={"name": "limited", "budget": BUDGET})).json()
    assert (plain["budget"], limited["budget"]) == (None, BUDGET)
    listed = (await admin.get("/v1/clients")).json()["items"]
    assert {client["name"]: client["budget"] for client in listed} == {"plain": None, "limited": BUDGET}
    assert (await admin.get(f"/v1/clients/{limited['id']}")).json()["budget"] == BUDGET


async def test_a_budget_is_changed_and_removed(
    admin: httpx.AsyncClient, api: httpx.AsyncClient, api_client: tuple[CurrentClient, str]
) -> None:
    path = f"/v1/clients/{api_client[0].id}"
    job = {"file_urls": ["https://example.com/a.wav"]}
    nothing = {"amount": "0", "currency": "USD", "period": "day"}
    for budget, status in ((BUDGET, 202), (nothing, 422), ({**BUDGET, "amount": "0"}, 429), (None, 202)):
        changed = await admin.patch(path, json={"budget": budget})
        assert (changed.status_code, changed.json()["budget"]) == (200, budget)
        assert (await api.post("/v1/jobs", json=job)).status_code == status
    assert (await admin.patch(path, json={})).json()["budget"] is None


async def test_a_change_without_the_budget_keeps_it(admin: httpx.AsyncClient) -> None:
    client = (await admin.post("/v1/clients", json={"name": "limited", "budget": BUDGET})).json()
    assert (await admin.patch(f"/v1/clients/{client['id']}", json={})).json()["budget"] == BUDGET


@pytest.mark.parametrize(
    ("given", "shown"),
    [("0.10", "0.10"), (10, "10"), (0.1, "0.1"), (1e-9, "0.000000001"), ("999999999", "999999999")],
)
async def test_amounts_are_decimal_numbers(admin: httpx.AsyncClient, given: Any, shown: str) -> None:
    created = await admin.post("/v1/clients", json={"name": "limited", "budget": {**BUDGET, "amount": given}})
    assert (created.status_code, created.json()["budget"]["amount"]) == (201, shown)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"amount": "-1"}, "/budget/amount"),
        ({"amount": "1e3"}, "/budget/amount"),
        ({"amount": "١"}, "/budget/amount"),
        ({"amount": "1000000000"}, "/budget/amount"),
        ({"amount": "0.0000000001"}, "/budget/amount"),
        ({"amount": True}, "/budget/amount"),
        ({"amount": None}, "/budget/amount"),
        ({"amount": 1e300}, "/budget/amount"),
        ({"currency": "EUR"}, "/budget/currency"),
        ({"period": "week"}, "/budget/period"),
        ({"resets_at": "now"}, "/budget/resets_at"),
    ],
)
async def test_wrong_budgets_are_refused_with_their_place(
    admin: httpx.AsyncClient, change: dict[str, Any], pointer: str
) -> None:
    refused = await admin.post("/v1/clients", json={"name": "limited", "budget": {**BUDGET, **change}})
    assert (refused.status_code, [fault["pointer"] for fault in refused.json()["errors"]]) == (422, [pointer])
    assert (await admin.get("/v1/clients")).json()["items"] == []


async def test_only_the_admin_token_changes_clients(
    admin: httpx.AsyncClient, api: httpx.AsyncClient, api_client: tuple[CurrentClient, str]
) -> None:
    path = f"/v1/clients/{api_client[0].id}"
    assert (await api.patch(path, json={"budget": None})).json()["code"] == "forbidden"
    assert (await admin.patch(f"/v1/clients/{uuid4()}", json={"budget": None})).status_code == 404
    assert (await admin.patch(path, json={"name": "other"})).status_code == 422
