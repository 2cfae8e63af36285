"""The HTTP API over a real database."""

from tests.api_fixtures import *  # noqa: F403 - fixtures are found by their names
