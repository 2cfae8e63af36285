"""The tests of the queue use the fixtures of the poller's tests."""

from tests.poller.conftest import queue, sandbox, start_poller

__all__ = ["queue", "sandbox", "start_poller"]
