"""Puts rows into the usage as the end of a file does."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert

from app.db import Sessions, transaction
from app.identifiers import new_id
from app.usage.models import Usage

NOVEMBER = datetime(2026, 11, 5, 12, tzinfo=UTC)


async def add_usage(sessions: Sessions, client_id: UUID, *rows: dict[str, Any]) -> None:
    """By default a file of 6.155 s for which 6 s were billed."""
    default: dict[str, Any] = {
        "at": NOVEMBER,
        "client_id": client_id,
        "client": "tester",
        "file_index": 0,
        "model": "fun-asr",
        "region": "beijing",
        "account": "beijing/default",
        "metadata_": {},
        "files": 1,
        "audio_ms": 6155,
        "billed_s": 6,
        "input_tokens": 0,
        "output_tokens": 0,
        "cost": "0.00132",
        "currency": "CNY",
    }
    async with transaction(sessions) as session:
        for row in rows or ({},):
            await session.execute(insert(Usage).values({**default, "job_id": new_id(), **row}))
