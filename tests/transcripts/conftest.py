"""Fixtures for tests of the HTTP API with a real database."""

from uuid import UUID

import pytest

from app.clients.service import CurrentClient
from tests.api_fixtures import *  # noqa: F403 - fixtures are found by their names


@pytest.fixture
def client_id(api_client: tuple[CurrentClient, str]) -> UUID:
    return api_client[0].id
