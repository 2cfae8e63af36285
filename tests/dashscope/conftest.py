from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from app.dashscope.budgets import Budgets
from app.dashscope.client import DashScope
from app.dashscope.transport import http_client
from app.db import Sessions, create_engine, create_sessions
from app.settings import Account
from tests.dashscope.budget_rows import NOTE_GRANTS, run
from tests.dashscope.hostile import HostileServer, hostile_server

KEY = "sk-0123456789abcdefVERYsecret"


@pytest.fixture
async def server() -> AsyncIterator[HostileServer]:
    async with hostile_server() as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with http_client() as http:
        yield http


@pytest.fixture
def account() -> Account:
    return Account("beijing", "default", SecretStr(KEY))


@pytest.fixture
def client(server: HostileServer, http: httpx.AsyncClient, account: Account) -> DashScope:
    return DashScope(account, server.base_url, http)


@pytest.fixture
async def replicas(database_url: str) -> AsyncIterator[list[Budgets]]:
    """Two processes from the database's view."""
    engines = [create_engine(database_url, pool_size=3) for _ in range(2)]
    yield [Budgets(create_sessions(engines[0])), Budgets(create_sessions(engines[1]))]
    for engine in engines:
        await engine.dispose()


@pytest.fixture
def budgets(engine: AsyncEngine) -> Budgets:
    return Budgets(create_sessions(engine))


@pytest.fixture
async def grants(sessions: Sessions) -> None:
    for statement in NOTE_GRANTS:
        await run(sessions, statement)
