"""Fixtures: the API and a poller against the sandbox, as for uploads."""

from tests.uploads.conftest import (
    QueueClient,
    StartPoller,
    admin,
    api,
    api_client,
    app,
    http,
    other_api,
    queue,
    sandbox,
    settings,
    start_poller,
    stranger,
)

__all__ = [
    "QueueClient",
    "StartPoller",
    "admin",
    "api",
    "api_client",
    "app",
    "http",
    "other_api",
    "queue",
    "sandbox",
    "settings",
    "start_poller",
    "stranger",
]
