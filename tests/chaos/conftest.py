"""The chaos tests post jobs as the poller's tests do."""

from tests.poller.conftest import services

__all__ = ["services"]
