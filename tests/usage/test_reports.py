"""`GET /v1/usage`: groups, spans, currencies, both forms, and what each caller sees."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.clients.service import CurrentClient
from app.db import Sessions, transaction
from app.identifiers import new_id
from app.usage.reports import MAX_ITEMS, report_span
from tests.usage.rows import NOVEMBER, add_usage

Item = dict[str, Any]
SPAN = {"from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}


async def items(api: httpx.AsyncClient, *group_by: str, **query: str) -> list[Item]:
    response = await api.get("/v1/usage", params={**SPAN, "group_by": [*group_by], **query})
    assert response.status_code == 200, response.text
    body = response.json()
    assert list(body) == ["items", "from", "to"]
    found: list[Item] = body["items"]
    return found


async def test_without_groups_there_is_one_sum(
    api: httpx.AsyncClient, api_client: tuple[CurrentClient, str], sessions: Sessions
) -> None:
    await add_usage(sessions, api_client[0].id, {}, {})
    response = await api.get("/v1/usage", params=SPAN)
    assert response.json() == {
        "items": [
            {
                "files": 2,
                "audio_seconds": "12.310",
                "billed_seconds": "12.000",
                "input_tokens": 0,
                "output_tokens": 0,
                "cost": {"amount": "0.00264", "currency": "CNY"},
            }
        ],
        **SPAN,
    }


async def test_nothing_used_is_no_item(api: httpx.AsyncClient) -> None:
    assert await items(api, "day") == []
    assert (await api.get("/v1/usage")).json()["items"] == []


async def test_groups_have_their_keys_in_order(
    api: httpx.AsyncClient, api_client: tuple[CurrentClient, str], sessions: Sessions
) -> None:
    client = api_client[0]
    await add_usage(
        sessions,
        client.id,
        {"model": "paraformer-v2", "metadata_": {"team": "b"}},
        {"metadata_": {"team": "a", "x": "1"}},
        {"region": "singapore"},
        {"metadata_": {"team": "a"}},
    )
    found = await items(api, "model", "region", "metadata.team", "client")
    keys = ["model", "region", "metadata.team", "client", "client_id"]
    assert [list(item)[:5] for item in found] == [keys] * 3
    same = ["tester", str(client.id)]
    assert [[*(item[key] for key in keys), item["files"]] for item in found] == [
        ["fun-asr", "beijing", "a", *same, 2],
        ["fun-asr", "singapore", None, *same, 1],
        ["paraformer-v2", "beijing", "b", *same, 1],
    ]


async def test_days_are_those_of_utc(
    api: httpx.AsyncClient, api_client: tuple[CurrentClient, str], sessions: Sessions
) -> None:
    midnight = datetime(2026, 11, 6, tzinfo=UTC)
    moments = [midnight - timedelta(microseconds=1), midnight, midnight + timedelta(hours=23, minutes=59)]
    await add_usage(sessions, api_client[0].id, *({"at": at} for at in moments))
    assert [(item["day"], item["files"]) for item in await items(api, "day")] == [("2026-11-05", 1), ("2026-11-06", 2)]


async def test_the_span_has_its_begin_and_not_its_end(
    api: httpx.AsyncClient, api_client: tuple[CurrentClient, str], sessions: Sessions
) -> None:
    await add_usage(sessions, api_client[0].id)
    after = "2026-11-05T12:00:00.000001Z"
    assert len(await items(api, **{"from": "2026-11-05T20:00:00+08:00", "to": after})) == 1
    assert not await items(api, **{"from": after})
    assert not await items(api, to="2026-11-05T12:00:00Z")


async def test_currencies_are_never_added_up(
    api: httpx.AsyncClient, api_client: tuple[CurrentClient, str], sessions: Sessions
) -> None:
    tokens = {"model": "qwen-audio-3.1-asr-flash-filetrans", "currency": "USD", "billed_s": 0, "cost": "0.000435300"}
    await add_usage(sessions, api_client[0].id, {}, {**tokens, "input_tokens": 2500, "output_tokens": 400})
    found = await items(api)
    assert [item["cost"] for item in found] == [
        {"amount": "0.00132", "currency": "CNY"},
        {"amount": "0.00044", "currency": "USD"},
    ]
    assert (found[1]["input_tokens"], found[1]["output_tokens"], found[1]["billed_seconds"]) == (2500, 400, "0.000")
    assert len(await items(api, "day")) == 2


async def test_sums_are_exact_beyond_the_precision_of_floats(
    api: httpx.AsyncClient, api_client: tuple[CurrentClient, str], sessions: Sessions
) -> None:
    await add_usage(sessions, api_client[0].id, {"cost": "123456789.123450000"}, *[{"cost": "0.000001000"}] * 10)
    assert (await items(api))[0]["cost"]["amount"] == "123456789.12346"


async def test_a_client_sees_its_own_and_the_admin_token_sees_all(
    api: httpx.AsyncClient,
    other_api: httpx.AsyncClient,
    admin: httpx.AsyncClient,
    api_client: tuple[CurrentClient, str],
    sessions: Sessions,
) -> None:
    gone = new_id()
    await add_usage(sessions, api_client[0].id, {}, {"client_id": gone, "client": "gone"})
    assert [item["client"] for item in await items(api, "client")] == ["tester"]
    assert await items(other_api, "client") == []
    assert [(item["client"], item["client_id"]) for item in await items(admin, "client")] == [
        ("gone", str(gone)),
        ("tester", str(api_client[0].id)),
    ]


async def test_guesses_of_the_admin_token_are_paused_but_clients_are_not(
    api: httpx.AsyncClient, stranger: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    guesses = [await stranger.get("/v1/usage", headers={"Authorization": "Bearer wrong"}) for _ in range(11)]
    assert [guess.status_code for guess in guesses] == [401] * 10 + [429]
    assert (await admin.get("/v1/usage")).json()["code"] == "too_many_wrong_tokens"
    assert (await api.get("/v1/usage")).status_code == 200


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("group_by=week", "/query/group_by/0"),
        ("group_by=day&group_by=metadata.", "/query/group_by/1"),
        ("group_by=day&group_by=day", "/query/group_by/1"),
        ("from=2026-11-01", "/query/from"),
        ("from=2026-11-02T00:00:00Z&to=2026-11-02T00:00:00Z", "/query/to"),
        ("from=9999-12-31T00:00:00Z", "/query/from"),
        ("to=0001-01-01T00:00:00Z", "/query/to"),
        ("format=xml", "/query/format"),
        ("client=tester", "/query/client"),
        ("group_by=metadata.a%00", "/query/group_by"),
        (f"group_by=metadata.{'a' * 65}", "/query/group_by/0"),
        ("&".join(f"group_by=metadata.{number}" for number in range(11)), "/query/group_by"),
    ],
)
async def test_wrong_queries_are_refused_with_their_place(api: httpx.AsyncClient, query: str, pointer: str) -> None:
    response = await api.get(f"/v1/usage?{query}")
    assert response.status_code == 422
    assert [fault["pointer"] for fault in response.json()["errors"]] == [pointer]


async def test_csv_has_the_same_figures(
    api: httpx.AsyncClient, api_client: tuple[CurrentClient, str], sessions: Sessions
) -> None:
    await add_usage(sessions, api_client[0].id, {}, {"metadata_": {"team": 'a,"b"'}})
    response = await api.get("/v1/usage", params={**SPAN, "group_by": ["day", "metadata.team"], "format": "csv"})
    assert response.headers["content-type"].startswith("text/csv; charset=utf-8")
    rows = list(csv.DictReader(io.StringIO(response.text, newline="")))
    figures = {"files": "1", "audio_seconds": "6.155", "billed_seconds": "6.000", "input_tokens": "0"}
    figures |= {"output_tokens": "0", "amount": "0.00132", "currency": "CNY"}
    assert rows == [{"day": "2026-11-05", "metadata.team": team, **figures} for team in ('a,"b"', "")]


async def test_no_cell_of_csv_is_a_formula(
    api: httpx.AsyncClient, api_client: tuple[CurrentClient, str], sessions: Sessions
) -> None:
    """Keys and values of metadata, and so the header too, come from clients."""
    await add_usage(sessions, api_client[0].id, {"metadata_": {"k": "=HYPERLINK(0)"}}, {"cost": "-0.00100"})
    response = await api.get("/v1/usage", params={**SPAN, "group_by": ["metadata.k"], "format": "csv"})
    lines = response.text.split("\r\n")
    assert lines[1].startswith("'=HYPERLINK(0),1")
    assert lines[2].endswith(",-0.00100,CNY")


async def test_csv_of_nothing_is_its_header(api: httpx.AsyncClient) -> None:
    response = await api.get("/v1/usage?group_by=client&format=csv", headers={"Accept": "text/csv"})
    names = "client,client_id,files,audio_seconds,billed_seconds,input_tokens,output_tokens,amount,currency"
    assert response.text == f"{names}\r\n"


@pytest.mark.slow
async def test_a_report_of_too_many_groups_is_refused(
    api: httpx.AsyncClient, api_client: tuple[CurrentClient, str], sessions: Sessions
) -> None:

    await add_usage(sessions, api_client[0].id)
    copies = text("""
        INSERT INTO usage (at, client_id, client, job_id, file_index, model, region, metadata, files, audio_ms,
                           billed_s, input_tokens, output_tokens, cost, currency)
        SELECT at, client_id, client, job_id, file_index, model, region, jsonb_build_object('call', number::text),
            files, audio_ms, billed_s, input_tokens, output_tokens, cost, currency
        FROM usage, generate_series(1, :groups) AS number
    """)
    async with transaction(sessions) as session:
        await session.execute(copies, {"groups": MAX_ITEMS})
    response = await api.get("/v1/usage", params={**SPAN, "group_by": "metadata.call"})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/query/group_by")
    assert len(await items(api, "day")) == 1


def test_the_default_span_is_a_month_of_utc() -> None:
    now = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
    month = datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    assert report_span(None, None, now=now) == month
    assert report_span(NOVEMBER, None, now=now) == (NOVEMBER, month[1])
    assert report_span(None, NOVEMBER, now=now) == (datetime(2026, 11, 1, tzinfo=UTC), NOVEMBER)
    assert report_span(None, month[0], now=now) == (datetime(2026, 11, 1, tzinfo=UTC), month[0])
    later = datetime(2027, 3, 2, tzinfo=UTC)
    assert report_span(later, None, now=now) == (later, datetime(2027, 4, 1, tzinfo=UTC))
    assert report_span(None, later, now=now) == (month[0], later)
    # Tomorrow, on the last day of a month: the report still has this month.
    assert report_span(None, month[1] + timedelta(hours=1), now=now) == (month[0], month[1] + timedelta(hours=1))
