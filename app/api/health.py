"""Is it alive, is it ready, how is it doing. No token is needed, nothing is told that needs one."""

import asyncio
from functools import cache
from typing import Literal

import structlog
from alembic.script import ScriptDirectory
from fastapi import APIRouter, Request, Response
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel, ConfigDict
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app import migrate
from app.api.dependencies import SessionsDep
from app.api.problems import responses
from app.db import Sessions, connections_of, transaction
from app.errors import DatabaseUnavailable, ServiceUnavailable
from app.readiness import check_writable_sometimes, raise_write_failure

READY_TIMEOUT_S = 1
_UNDEFINED_TABLE = "42P01"

_METRICS = {
    "schema": {"type": "string"},
    "example": 'asr_gateway_http_requests_total{method="GET",route="/v1/jobs",status="200"} 3.0\n',
}

router = APIRouter(tags=["health"])
log = structlog.get_logger(__name__)


class Health(BaseModel):
    model_config = ConfigDict(
        json_schema_serialization_defaults_required=True, json_schema_extra={"examples": [{"status": "ok"}]}
    )

    status: Literal["ok"] = "ok"


@router.get("/livez", summary="Ask whether the process is alive")
async def get_liveness() -> Health:
    """200 as long as the process answers at all. Whether it can do its work is what `/readyz` says."""
    return Health()


@router.get(
    "/readyz", summary="Ask whether it can do its work", responses=responses(ServiceUnavailable, DatabaseUnavailable)
)
async def get_readiness(request: Request, sessions: SessionsDep) -> Health:
    """200 when the database answers within a second, can be written and has the tables that this code needs.

    The 503 names the reason in one word, such as `unreachable`, `login_refused`, `read_only` or `disk_full`.
    503 as soon as the gateway is told to stop; it still answers for some seconds then.
    A schema newer than the code counts: else the old replicas would all turn away their callers during a rollout.
    """
    if request.app.state.stopping:
        raise ServiceUnavailable("The gateway is stopping.")
    await check_ready(sessions)
    return Health()


@router.get(
    "/metrics",
    summary="Get measurements",
    response_class=Response,
    responses={200: {"content": {"text/plain": _METRICS}}},
)
async def get_metrics(request: Request) -> Response:
    """Prometheus' text format, or OpenMetrics when it is asked for."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(REGISTRY), headers={"Content-Type": content_type})


@cache
def _older_revisions() -> frozenset[str]:
    scripts = ScriptDirectory(str(migrate.ROOT / "migrations"))
    return frozenset(script.revision for script in scripts.walk_revisions()) - {str(migrate.head())}


async def check_ready(sessions: Sessions) -> None:
    """Raises ServiceUnavailable, or DatabaseUnavailable, which is one."""
    availability = connections_of(sessions).availability
    raise_write_failure(availability)
    try:
        async with asyncio.timeout(READY_TIMEOUT_S), transaction(sessions) as session:
            await check_writable_sometimes(session, availability)
            revision: str | None = await session.scalar(text("SELECT version_num FROM alembic_version"))
    except TimeoutError:
        detail = f"The database did not answer within {READY_TIMEOUT_S} s (timeout)."
        raise DatabaseUnavailable(detail, reason="timeout") from None
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _UNDEFINED_TABLE:
            log.exception("readiness cannot be checked")
            raise ServiceUnavailable("The database refuses the check; the log of the gateway says why.") from error
        revision = None
    if revision is None or revision in _older_revisions():
        raise ServiceUnavailable(
            f"The database's schema is at revision {revision or 'none'}, this gateway needs {migrate.head()}:"
            " run `python -m app migrate`."
        )
