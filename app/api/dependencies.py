"""The settings and the sessions of the application, for its routes.

`app.main.connect` sets `app.state`, which has no types. So one function reads each of its members and says its type:
these, and for the members that only some packages know, `authenticator_of`, `job_services`, `uploader_of` and others
beside the routes of these packages.

There is no session per request: a route opens `transaction(sessions)` around the statements of one transaction, so
that the commit happens before the response.
"""

from typing import Annotated

from fastapi import Depends, Request

from app.db import Sessions
from app.settings import Settings


def settings_of(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def sessions_of(request: Request) -> Sessions:
    sessions: Sessions = request.app.state.sessions
    return sessions


# Async although they await nothing: FastAPI runs plain functions in a thread.
async def _settings(request: Request) -> Settings:
    return settings_of(request)


async def _sessions(request: Request) -> Sessions:
    return sessions_of(request)


SettingsDep = Annotated[Settings, Depends(_settings)]
SessionsDep = Annotated[Sessions, Depends(_sessions)]
