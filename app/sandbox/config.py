"""Configuration of a sandbox at its start. Faults can change while it runs: see `app.sandbox.faults`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from app.sandbox.faults import Faults

REGIONS = ("beijing", "singapore")
# Not 9100 and 9101, where node_exporter and other exporters of Prometheus listen.
API_PORT = 18100
RESULTS_PORT = 18101
_DAY_S = 24 * 3600.0


def _default_keys() -> dict[str, dict[str, str]]:
    return {region: {f"sk-sandbox-{region}": "main"} for region in REGIONS}


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig:
    """Durations are in seconds, rates in calls per second.

    `keys` maps region → key → account. The keys of an account share its tasks and rate limits.
    """

    keys: Mapping[str, Mapping[str, str]] = field(default_factory=_default_keys)

    queue_s: float = 0.3
    run_s: float = 0.7
    run_s_per_audio_s: float = 0.0
    """DashScope needs about 1/60. With 0, tests and the demo are quick."""
    task_ttl_s: float = _DAY_S
    result_ttl_s: float = _DAY_S

    submit_rps: float | None = None
    """None means the catalogue's rate of each model. `math.inf` disables the limit."""
    query_rps: float = 20.0
    """Applies to query, list and cancel. Each has its own window."""

    max_files_per_task: int | None = None
    """None means the catalogue's limit of each model. DashScope's pages since mid-2026 say 1."""
    unknown_model_style: Literal["404", "400"] = "404"
    all_failed_style: Literal["failed", "succeeded"] = "failed"
    """`failed` was observed in 2026. The older documents show `succeeded`."""
    require_parameters_singapore: bool = False
    """Accept a submit without `parameters` and fail the task later, as the workspace domains do."""
    max_vocabularies: int = 10
    """Per account."""
    vocabulary_update_s: float = 300.0
    """The least time between two updates of one hot-word list."""
    vocabulary_deploy_s: float = 0.0
    """Time for which a hot-word list is UNDEPLOYED after it was created or updated."""
    missing_vocabulary_style: Literal["400", "416", "task"] = "400"
    """A hot-word list that does not exist: the status of the refusal. With `task`, a submit that names it is accepted
    and its task fails."""
    shuffle_results: bool = True
    seed: int = 0

    results_port: int = RESULTS_PORT
    results_origin: str | None = None
    """None means http, the host of the API request, and `results_port`."""

    faults: Faults = field(default_factory=Faults)
