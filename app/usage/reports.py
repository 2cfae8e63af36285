"""Sums of the usage by day, model, region, client and metadata. Reads the usage table only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Date, Text, cast, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalogue import amount_text
from app.errors import InvalidRequest
from app.usage.models import Usage

METADATA_PREFIX = "metadata."
# Groups of a report. A report of more would take megabytes, and a person reads none of them.
MAX_ITEMS = 10_000


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """The usage from `start` until before `end`. `client_id` of None stands for all clients.

    `group_by` has `day`, `model`, `region`, `client`, or `metadata.` and a key.
    """

    start: datetime
    end: datetime
    group_by: Sequence[str] = ()
    client_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class ReportItem:
    """The sums of one group and currency. `keys` has the values by which it is grouped."""

    keys: dict[str, str | None]
    files: int
    audio_seconds: str
    billed_seconds: str
    input_tokens: int
    output_tokens: int
    amount: str
    currency: str


def report_span(start: datetime | None, end: datetime | None, *, now: datetime) -> tuple[datetime, datetime]:
    """The begin and the end of a report. By default it is the month of UTC with `now`.

    With an `end` before this month, it begins with the month that has the end.

    Raises InvalidRequest if the end is not after the begin.
    """
    try:
        if end is None:
            end = _month_of(_month_of(max(start or now, now)) + timedelta(days=32))
        if start is None:
            start = _month_of(min(end - timedelta(microseconds=1), now))
    except OverflowError:
        pointer = "/query/to" if start is None else "/query/from"
        detail = "needs to be an instant of the years 2 to 9998, unless both ends are given"
        raise InvalidRequest.at(pointer, detail) from None
    if start >= end:
        raise InvalidRequest.at("/query/to", "needs to be an instant after that of from")
    return start, end


def key_names(group_by: Sequence[str]) -> list[str]:
    """The names of the keys of each item. A client is named by `client`, and by `client_id`: a name may be reused."""
    return [name for group in group_by for name in (("client", "client_id") if group == "client" else (group,))]


async def report(session: AsyncSession, query: ReportQuery) -> list[ReportItem]:
    """The groups in the order of their keys. Empty if nothing was used.

    One statement: 1,000,000 rows take about a second. Raises InvalidRequest for more than MAX_ITEMS groups.
    """
    names = key_names(query.group_by)
    grouped = [_column(name).label(f"key_{number}") for number, name in enumerate(names)]
    statement = (
        select(
            *grouped,
            Usage.currency,
            func.sum(Usage.files),
            func.sum(Usage.audio_ms),
            func.sum(Usage.billed_s),
            func.sum(Usage.input_tokens),
            func.sum(Usage.output_tokens),
            func.sum(Usage.cost),
        )
        .where(Usage.at >= query.start, Usage.at < query.end)
        .group_by(*grouped, Usage.currency)
        .order_by(*grouped, Usage.currency)
        .limit(MAX_ITEMS + 1)
    )
    if query.client_id is not None:
        statement = statement.where(Usage.client_id == query.client_id)
    rows = (await session.execute(statement)).all()
    if len(rows) > MAX_ITEMS:
        detail = f"makes more than {MAX_ITEMS:,} groups; use fewer keys, or a shorter span"
        raise InvalidRequest.at("/query/group_by", detail)
    return [_item(names, row) for row in rows]


def _month_of(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _column(name: str) -> ColumnElement[Any]:
    if name.startswith(METADATA_PREFIX):
        return Usage.metadata_.op("->>")(cast(name.removeprefix(METADATA_PREFIX), Text))
    if name == "day":
        return cast(func.timezone("UTC", Usage.at), Date)
    column: ColumnElement[Any] = getattr(Usage, name)
    return column


def _item(names: Sequence[str], row: Any) -> ReportItem:
    values, (currency, files, audio_ms, billed_s, input_tokens, output_tokens, cost) = row[: len(names)], row[-7:]
    return ReportItem(
        keys={name: None if value is None else str(value) for name, value in zip(names, values, strict=True)},
        files=int(files),
        audio_seconds=f"{Decimal(audio_ms) / 1000:.3f}",
        billed_seconds=f"{billed_s:.3f}",
        input_tokens=int(input_tokens),
        output_tokens=int(output_tokens),
        amount=amount_text(cost),
        currency=currency,
    )
