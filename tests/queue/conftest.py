"""The tests of the queue use the fixtures of the poller's tests."""

from tests.api_fixtures import *  # noqa: F403 - fixtures are found by their names
from tests.poller.conftest import queue, sandbox, start_poller

__all__ = ["queue", "sandbox", "start_poller"]
