"""Fixtures for webhooks over PostgreSQL and real servers. Loopback is permitted only where a test permits it."""

from tests.api_fixtures import *  # noqa: F403 - fixtures are found by their names
from tests.poller.conftest import queue, sandbox, start_poller

__all__ = ["queue", "sandbox", "start_poller"]
