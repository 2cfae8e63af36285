"""Routes for load balancers and monitoring: liveness, readiness and metrics. They need no token."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, FastAPI, Query, Request, Response
from prometheus_client import REGISTRY, Info, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app import __version__
from app.api.dependencies import SessionsDep
from app.api.exception_handlers import add_problem_handlers
from app.api.problems import responses
from app.dashscope.circuits import Circuit, read_circuits
from app.db import Sessions, transaction
from app.errors import DatabaseUnavailable, ServiceUnavailable
from app.readiness import check_ready

_METRICS = {
    "schema": {"type": "string"},
    "example": 'asr_gateway_http_requests_total{method="GET",route="/v1/jobs",status="200"} 3.0\n',
}

# A third of all lines would be creation times, which no alert and no graph uses.
disable_created_metrics()  # type: ignore[no-untyped-call]
Info("asr_gateway_build", "Version of the gateway").info({"version": __version__})

router = APIRouter(tags=["health"])


class Health(BaseModel):
    model_config = ConfigDict(
        json_schema_serialization_defaults_required=True, json_schema_extra={"examples": [{"status": "ok"}]}
    )

    status: Literal["ok"] = "ok"


class OpenCircuit(BaseModel):
    """The reason for which an account takes no files now."""

    model: str | None = Field(description="The model that the account does not take; null: all models.")
    code: str = Field(description="A code of `waiting_reason`, such as `account_key_refused`.")
    since: datetime


class AccountReadiness(BaseModel):
    """An account of DashScope that has a key."""

    account: str = Field(description="Region and name.")
    available: bool = Field(description="Whether the account takes files of any model.")
    circuits: list[OpenCircuit]


_READINESS_EXAMPLE: dict[str, JsonValue] = {
    "status": "ok",
    "version": __version__,
    "accounts": [
        {
            "account": "beijing/default",
            "available": False,
            "circuits": [{"model": None, "code": "account_key_refused", "since": "2026-11-28T03:00:00.120000Z"}],
        }
    ],
}


class Readiness(BaseModel):
    """Version, and the state of each account: the response with `verbose`."""

    status: Literal["ok"]
    version: str
    accounts: list[AccountReadiness]


Verbose = Annotated[
    str | None,
    Query(
        description="Also report the version and the state of each account that has a key. Any value but `0` and"
        " `false`, or none: `?verbose`."
    ),
]


@router.get("/livez", summary="Check that the process is alive")
async def get_liveness() -> Health:
    """200 as long as the process responds. `/readyz` reports whether it can do its work."""
    return Health()


@router.get(
    "/readyz",
    summary="Check that the gateway can do its work",
    responses={
        200: {"content": {"application/json": {"example": _READINESS_EXAMPLE}}},
        **responses(ServiceUnavailable, DatabaseUnavailable),
    },
)
async def get_readiness(request: Request, sessions: SessionsDep, *, verbose: Verbose = None) -> Health | Readiness:
    """200 if the database responds within a second, accepts writes and has the tables that this version needs.

    The status is about the database and its schema only: a gateway without a key, with a refused key or with an
    upstream that is unavailable accepts jobs, which wait. `verbose` reports the accounts.

    The 503 has the reason in one word, such as `unreachable`, `login_refused`, `read_only` or `disk_full`.
    A gateway that was told to stop reports 503 and still responds for some seconds. A schema that is newer than the
    code is accepted, so that old replicas keep serving during a rollout.
    """
    if request.app.state.stopping:
        raise ServiceUnavailable("The gateway is stopping.")
    await check_ready(sessions)
    if verbose is None or verbose.lower() in {"0", "false"}:
        return Health()
    async with transaction(sessions) as session:
        circuits = await read_circuits(session)
    accounts = [_state(account, circuits) for account in request.app.state.accounts]
    return Readiness(status="ok", version=__version__, accounts=accounts)


def _state(account: str, circuits: Sequence[Circuit]) -> AccountReadiness:
    own = [circuit for circuit in circuits if circuit.account == account]
    return AccountReadiness(
        account=account,
        available=all(circuit.model for circuit in own),
        circuits=[
            OpenCircuit(model=circuit.model or None, code=circuit.code, since=circuit.opened_at) for circuit in own
        ],
    )


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


def create_health_app(sessions: Sessions, accounts: Collection[str]) -> FastAPI:
    """An application with the routes of this module alone, for a process that does not serve the API.

    `accounts`: the configured ones.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.sessions = sessions
    app.state.accounts = accounts
    app.state.stopping = False
    add_problem_handlers(app)
    app.include_router(router)
    return app
