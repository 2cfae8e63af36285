"""The HTTP API over a real database, and a poller against the sandbox."""

from tests.api_fixtures import *  # noqa: F403 - fixtures are found by their names
from tests.poller.conftest import sandbox, start_poller

__all__ = ["sandbox", "start_poller"]
