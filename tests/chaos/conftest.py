"""The chaos tests use the fixture of the poller's tests that posts jobs."""

from tests.poller.conftest import queue

__all__ = ["queue"]
