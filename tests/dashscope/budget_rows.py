"""The rows of rate budgets, and a trigger that records each grant with the database's clock."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text

from app.dashscope.budgets import Call
from app.db import Sessions, transaction

NOTE_GRANTS = [
    """CREATE TABLE grants (
        number bigserial, kind text, at timestamptz, allowed_at timestamptz, next_at timestamptz,
        current_rate float8)""",
    """CREATE FUNCTION note_grant() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO grants (kind, at, allowed_at, next_at, current_rate)
        VALUES (NEW.kind, NEW.rate_changed_at, OLD.next_at, NEW.next_at, OLD.current_rate);
        RETURN NULL;
    END $$""",
    """CREATE TRIGGER note_grant AFTER UPDATE ON budgets FOR EACH ROW
        WHEN (NEW.throttled = OLD.throttled AND NEW.next_at <> OLD.next_at) EXECUTE FUNCTION note_grant()""",
]


async def run(sessions: Sessions, statement: str) -> None:
    async with transaction(sessions) as session:
        await session.execute(text(statement))


async def rows_of(sessions: Sessions, statement: str, **values: Any) -> Sequence[Row[Any]]:
    async with transaction(sessions) as session:
        return (await session.execute(text(statement), values)).all()


async def row_of(sessions: Sessions, call: Call) -> Row[Any]:
    (row,) = await rows_of(
        sessions,
        "SELECT *, clock_timestamp() AS now FROM budgets WHERE account = :account AND kind = :kind",
        account=call.account,
        kind=call.kind,
    )
    return row


async def set_row(sessions: Sessions, assignments: str) -> None:
    await run(sessions, f"UPDATE budgets SET {assignments}")  # noqa: S608 - constant SQL of the tests
