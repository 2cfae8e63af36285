"""Routes for load balancers and monitoring: liveness, readiness and metrics. They need no token."""

from typing import Literal

from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel, ConfigDict

from app.api.dependencies import SessionsDep
from app.api.exception_handlers import add_problem_handlers
from app.api.problems import responses
from app.db import Sessions
from app.errors import DatabaseUnavailable, ServiceUnavailable
from app.readiness import check_ready

_METRICS = {
    "schema": {"type": "string"},
    "example": 'asr_gateway_http_requests_total{method="GET",route="/v1/jobs",status="200"} 3.0\n',
}

router = APIRouter(tags=["health"])


class Health(BaseModel):
    model_config = ConfigDict(
        json_schema_serialization_defaults_required=True, json_schema_extra={"examples": [{"status": "ok"}]}
    )

    status: Literal["ok"] = "ok"


@router.get("/livez", summary="Check that the process is alive")
async def get_liveness() -> Health:
    """200 as long as the process responds. `/readyz` reports whether it can do its work."""
    return Health()


@router.get(
    "/readyz",
    summary="Check that the gateway can do its work",
    responses=responses(ServiceUnavailable, DatabaseUnavailable),
)
async def get_readiness(request: Request, sessions: SessionsDep) -> Health:
    """200 if the database responds within a second, accepts writes and has the tables that this version needs.

    The 503 has the reason in one word, such as `unreachable`, `login_refused`, `read_only` or `disk_full`.
    A gateway that was told to stop reports 503 and still responds for some seconds. A schema that is newer than the
    code is accepted, so that old replicas keep serving during a rollout.
    """
    if request.app.state.stopping:
        raise ServiceUnavailable("The gateway is stopping.")
    await check_ready(sessions)
    return Health()


@router.get(
    "/metrics",
    summary="Get metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": _METRICS}}},
)
async def get_metrics(request: Request) -> Response:
    """Prometheus text format, or OpenMetrics if the Accept header requests it."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(REGISTRY), headers={"Content-Type": content_type})


def create_health_app(sessions: Sessions) -> FastAPI:
    """An application with the routes of this module alone, for a process that does not serve the API."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.sessions = sessions
    app.state.stopping = False
    add_problem_handlers(app)
    app.include_router(router)
    return app
