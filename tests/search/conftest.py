"""Fixtures for tests of the HTTP API with a real database."""

from tests.api_fixtures import *  # noqa: F403 - fixtures are found by their names
