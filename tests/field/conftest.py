"""Fixtures of the HTTP API beside real processes."""

from tests.api_fixtures import *  # noqa: F403 - fixtures are found by their names
