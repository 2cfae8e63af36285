"""Dependencies of routes on the application's state.

There is no session per request: a route opens `transaction(sessions)` around the statements of one transaction, so
that the commit happens before the response.
"""

from typing import Annotated, cast

from fastapi import Depends, Request

from app.db import Sessions
from app.settings import Settings


# Async although they await nothing: FastAPI runs plain functions in a thread.
async def _settings(request: Request) -> Settings:
    return cast("Settings", request.app.state.settings)


async def _sessions(request: Request) -> Sessions:
    return cast("Sessions", request.app.state.sessions)


SettingsDep = Annotated[Settings, Depends(_settings)]
SessionsDep = Annotated[Sessions, Depends(_sessions)]
