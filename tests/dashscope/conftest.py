from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import SecretStr

from app.dashscope.client import DashScope
from app.dashscope.transport import http_client
from app.settings import Account
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
