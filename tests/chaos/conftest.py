"""The chaos tests post jobs as the poller's tests do."""

from tests.poller.conftest import desk

__all__ = ["desk"]
