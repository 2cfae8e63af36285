"""The HTTP API over a real database, and the statements that it sends to the database."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID
from weakref import WeakSet

import pytest
from asyncpg.connection import LoggedQuery
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from app.clients.service import CurrentClient
from tests.api_fixtures import *  # noqa: F403 - fixtures are found by their names


@pytest.fixture
def client_id(api_client: tuple[CurrentClient, str]) -> UUID:
    return api_client[0].id


@pytest.fixture
def statements(engine: AsyncEngine) -> Iterator[list[str]]:
    """All statements that the test and the application send, without BEGIN and the like.

    Statements on raw connections appear one iteration of the event loop later.
    """
    sent: list[str] = []
    listening: WeakSet[Any] = WeakSet()

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    # asyncpg does not log statements that SQLAlchemy prepared, and SQLAlchemy does not see those on raw connections.
    def note_driver(logged: LoggedQuery) -> None:
        if not logged.query.startswith(("BEGIN", "COMMIT", "ROLLBACK")):
            sent.append(logged.query)

    def listen(adapted: Any, *_: Any) -> None:
        if adapted.driver_connection not in listening:
            listening.add(adapted.driver_connection)
            adapted.driver_connection.add_query_logger(note_driver)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    event.listen(engine.sync_engine, "checkout", listen)
    yield sent
    event.remove(engine.sync_engine, "before_cursor_execute", note)
    event.remove(engine.sync_engine, "checkout", listen)
