"""`GET /v1/usage`: what a client used, or all clients for ADMIN_TOKEN."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.api.dependencies import SessionsDep
from app.api.parameters import Instant
from app.api.problems import responses
from app.clients.authentication import ClientOrAdminRoute
from app.clients.service import CurrentClient
from app.db import transaction
from app.errors import InvalidRequest, TooManyWrongTokens
from app.transcripts.csv_tsv import escaped, quoted
from app.usage.reports import ReportItem, ReportQuery, key_names, report, report_span

MAX_KEYS = 10
_GROUP = re.compile(r"day|model|region|client|metadata\..{1,64}", re.DOTALL)
_EXAMPLE_CSV = (
    "day,files,audio_seconds,billed_seconds,input_tokens,output_tokens,amount,currency\r\n"
    "2026-11-28,2,12.310,12.000,0,0,0.00264,CNY\r\n"
)
_COUNTS = ("files", "audio_seconds", "billed_seconds", "input_tokens", "output_tokens")


def _check_group(value: str) -> str:
    if not _GROUP.fullmatch(value):
        raise ValueError("needs to be day, model, region, client, or metadata.KEY with a key of 1 to 64 characters")
    return value


class ReportFormat(StrEnum):
    """The form of a report."""

    JSON = "json"
    CSV = "csv"


class UsageCost(BaseModel):
    """A sum in one currency."""

    amount: str = Field(description="A decimal number with five places. The sum is exact before it is rounded.")
    currency: str


class UsageItem(BaseModel):
    """The sums of one group. It also has a member for each `group_by`: `day`, `metadata.call` and so on.

    Costs in several currencies are never added up: each currency has an item of its own.
    """

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "additionalProperties": {"type": ["string", "null"]},
            "examples": [
                {
                    "day": "2026-11-28",
                    "metadata.team": "support",
                    "files": 2,
                    "audio_seconds": "12.310",
                    "billed_seconds": "12.000",
                    "input_tokens": 0,
                    "output_tokens": 0,
                    "cost": {"amount": "0.00264", "currency": "CNY"},
                }
            ],
        },
    )

    files: int = Field(description="Files that were transcribed or reused. A file that was billed twice counts twice.")
    audio_seconds: str = Field(description="The length of their audio: a decimal number with three places.")
    billed_seconds: str = Field(description="What DashScope billed: a decimal number with three places.")
    input_tokens: int = Field(description="What DashScope billed for models that are priced by token.")
    output_tokens: int
    cost: UsageCost


class UsageReport(BaseModel):
    """The usage in a span of time."""

    items: list[UsageItem] = Field(description="In the order of their keys. Empty if nothing was used.")
    from_: datetime = Field(alias="from")
    to: datetime


class UsageRoute(ClientOrAdminRoute):
    # The caller chooses the form by `format`.
    _responds_with_json = False


router = APIRouter(route_class=UsageRoute, tags=["usage"])


@router.get(
    "/v1/usage",
    operation_id="getUsage",
    summary="Get what was used and what it cost",
    response_model=UsageReport,
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}, "example": _EXAMPLE_CSV}}},
        **responses(InvalidRequest, TooManyWrongTokens),
    },
)
async def get_usage(
    request: Request,
    sessions: SessionsDep,
    *,
    from_: Annotated[
        Instant | None,
        Query(
            alias="from",
            description="From this instant on; absent: from the begin of this month, or of that of an earlier `to`.",
        ),
    ] = None,
    to: Annotated[
        Instant | None, Query(description="Before this instant; absent: to the end of this month. Months are in UTC.")
    ] = None,
    group_by: Annotated[
        list[Annotated[str, AfterValidator(_check_group)]] | None,
        Query(
            max_length=MAX_KEYS,
            description="`day` (in UTC), `model`, `region`, `client` or `metadata.KEY`, which has no value for jobs"
            " without that key. May be given several times; absent: one sum.",
        ),
    ] = None,
    format: Annotated[ReportFormat, Query(description="The form of the response.")] = ReportFormat.JSON,  # noqa: A002 - the name in the query
) -> Response:
    """A client gets its own usage, ADMIN_TOKEN that of all clients.

    The figures are what DashScope billed. They stay when jobs, transcripts and clients are deleted. A file counts at
    the instant at which its result was stored; failed and canceled files do not count. A report has up to 10,000 items.
    \f
    One statement, and the token's.
    """
    keys = group_by or []
    repeated = next((index for index, key in enumerate(keys) if key in keys[:index]), None)
    if repeated is not None:
        detail = f"repeats {keys[repeated]}; each key may be given once"
        raise InvalidRequest.at(f"/query/group_by/{repeated}", detail)
    client: CurrentClient | None = request.state.client
    start, end = report_span(from_, to, now=datetime.now(UTC))
    query = ReportQuery(start, end, keys, client.id if client else None)
    async with transaction(sessions) as session:
        items = await report(session, query)
    if format is ReportFormat.CSV:
        content = await asyncio.to_thread(_csv, keys, items)
        headers = {"Content-Disposition": 'attachment; filename="usage.csv"'}
        return Response(content, headers=headers, media_type="text/csv; charset=utf-8; header=present")
    return Response(await asyncio.to_thread(_json, query, items), media_type="application/json")


def _json(query: ReportQuery, items: Sequence[ReportItem]) -> bytes:
    shown = [
        {
            **item.keys,
            **{name: getattr(item, name) for name in _COUNTS},
            "cost": {"amount": item.amount, "currency": item.currency},
        }
        for item in items
    ]
    return orjson.dumps({"items": shown, "from": query.start, "to": query.end}, option=orjson.OPT_UTC_Z)


def _csv(keys: Sequence[str], items: Sequence[ReportItem]) -> str:
    """RFC 4180 with a header. Keys and values of metadata come from clients: no cell is a formula to a spreadsheet."""
    return "".join(_lines([*key_names(keys), *_COUNTS, "amount", "currency"], items))


def _lines(header: Sequence[str], items: Sequence[ReportItem]) -> Iterator[str]:
    yield _line(header)
    for item in items:
        figures = [str(getattr(item, name)) for name in _COUNTS]
        yield _line([*(value or "" for value in item.keys.values()), *figures, item.amount, item.currency])


def _line(cells: Sequence[Any]) -> str:
    return ",".join(quoted(escaped(str(cell))) for cell in cells) + "\r\n"
