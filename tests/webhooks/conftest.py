"""Webhooks over a real database and real servers; loopback counts as a permitted network where a test says so."""

from tests.api_fixtures import *  # noqa: F403 - fixtures are found by their names
from tests.poller.conftest import queue as services
from tests.poller.conftest import sandbox, start_poller

__all__ = ["sandbox", "services", "start_poller"]
