"""The HTTP API over a real database, and the statements that it sends there."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from app.clients.service import CurrentClient
from tests.api_fixtures import *  # noqa: F403 - fixtures are found by their names


@pytest.fixture
def client_id(api_client: tuple[CurrentClient, str]) -> UUID:
    return api_client[0].id


@pytest.fixture
def statements(engine: AsyncEngine) -> Iterator[list[str]]:
    """All statements that this test sends, also those of the application."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine.sync_engine, "before_cursor_execute", note)
