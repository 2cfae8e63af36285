"""What routes take from the application's state.

There is no session per request: a route writes `async with transaction(sessions) as session:` around exactly what
must be one transaction, so that the commit visibly happens before the answer.
"""

from typing import Annotated, cast

from fastapi import Depends, Request

from app.db import Sessions
from app.settings import Settings


# Async, though they await nothing: FastAPI would run plain functions in a thread each time.
async def _settings(request: Request) -> Settings:
    return cast("Settings", request.app.state.settings)


async def _sessions(request: Request) -> Sessions:
    return cast("Sessions", request.app.state.sessions)


SettingsDep = Annotated[Settings, Depends(_settings)]
SessionsDep = Annotated[Sessions, Depends(_sessions)]
