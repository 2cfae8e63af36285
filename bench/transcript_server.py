"""The gateway's API and its peers in one uvicorn process: Starlette's FileResponse and a naive design.

`python -m bench.transcript_server FOLDER`, with the same variables as `python -m app api`.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse
from sqlalchemy import text

from app.clients.service import ensure_default_client
from app.db import Sessions, create_engine, create_sessions, transaction
from app.logs import configure_logging
from app.main import create_app
from app.server.http_protocol import HttpProtocol
from app.server.run import freeze_gc
from app.settings import load_settings
from app.transcripts.schemas import Transcript

_NAIVE = text("SELECT body FROM naive")


async def _serve(folder: Path) -> None:
    settings = load_settings({})
    assert settings.database_url is not None
    assert settings.api_token is not None
    engine = create_engine(settings.database_url.get_secret_value())
    sessions = create_sessions(engine)
    async with transaction(sessions) as session:
        await ensure_default_client(session, settings.api_token.get_secret_value())
    app = create_app(settings, sessions=sessions)
    _add_peers(app, sessions, folder)
    config = uvicorn.Config(app, port=settings.port, http=HttpProtocol, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    freeze_gc()
    port = server.servers[0].sockets[0].getsockname()[1]
    print(f"listening at http://127.0.0.1:{port}", flush=True)
    await serving


def _add_peers(app: FastAPI, sessions: Sessions, folder: Path) -> None:
    async def gzip_file() -> FileResponse:
        headers = {"Content-Encoding": "gzip"}
        return FileResponse(folder / "document.json.gz", media_type="application/json", headers=headers)

    async def file(name: str) -> FileResponse:
        return FileResponse(folder / name, media_type="application/json")

    async def naive() -> Any:
        async with transaction(sessions) as session:
            return (await session.execute(_NAIVE)).scalar_one()

    app.add_api_route("/peer/gzip", gzip_file)
    app.add_api_route("/peer/file/{name}", file)
    app.add_api_route("/peer/naive", naive, response_model=Transcript)


if __name__ == "__main__":
    configure_logging("error")
    asyncio.run(_serve(Path(sys.argv[1])))
