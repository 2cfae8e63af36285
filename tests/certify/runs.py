"""Runs of certify in this process, against a sandbox without a port."""

import math
from typing import Any

import httpx

from app.catalogue import RegionName
from app.certify.registry import CheckResult
from app.certify.runner import certify
from app.certify.upstream import RunTimes
from app.sandbox import SandboxConfig
from app.sandbox.app import Sandbox, create_sandbox
from app.sandbox.faults import Faults
from app.settings import Settings, load_settings

# The sandbox's tasks take 0.35 s. A difference that needs a wait, as in the task list, is found after 0.3 s.
TIMES = RunTimes(run_s=20, call_gap_s=0, poll_s=0.02, lag_s=0.3, max_list_lag_s=0.25, throttled_s=0.01, cleanup_s=5)


def settings(**changes: str) -> Settings:
    regions = ("beijing", "singapore")
    values = {f"dashscope_{region}_api_key": f"sk-sandbox-{region}" for region in regions}
    values |= {f"dashscope_{region}_base_url": f"http://127.0.0.1:1/{region}/api/v1" for region in regions}
    return load_settings(values | changes)


def sandbox(faults: Faults | None = None, **changes: Any) -> Sandbox:
    quick: dict[str, Any] = {"queue_s": 0.25, "run_s": 0.1, "submit_rps": math.inf, "query_rps": math.inf}
    return create_sandbox(SandboxConfig(**quick | changes, faults=faults or Faults()))


async def run(
    upstream: Sandbox,
    *,
    region: RegionName = "beijing",
    transport: httpx.AsyncBaseTransport | None = None,
    **options: Any,
) -> dict[str, CheckResult]:
    """The results of one region by the names of the checks."""
    options = {"times": TIMES} | options
    runs = await certify(settings(), [region], transport=transport or upstream.transport(), **options)
    return {result.check.name: result for result in runs[0].results}
