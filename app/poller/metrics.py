"""The poller's metrics for `/metrics`, and the measurement of those that describe the whole database.

Labels are account names, models and the gateway's own codes; never URLs.
"""

from collections.abc import Collection, Sequence

from prometheus_client import Counter, Gauge, Histogram

from app.catalogue import MODELS
from app.dashscope.budgets import read_budgets
from app.dashscope.circuits import Circuit, read_circuits
from app.db import Sessions, transaction
from app.queue.due_work import WaitingFiles, count_open_tasks, count_waiting_files, oldest_uncollected_s
from app.search.indexing import count_unindexed
from app.webhooks.outbox import read_backlog

CALLS = Counter("asr_gateway_upstream_calls_total", "Calls to DashScope", ["account", "kind", "outcome"])
LAST_ROUND = Gauge("asr_gateway_poller_last_round_timestamp_seconds", "When the poller last read what is due; 0: never")
LEASES = Gauge("asr_gateway_leases_held", "Claims of tasks that this poller works on")
THROTTLED = Counter(
    "asr_gateway_upstream_throttled_total", "Calls that DashScope answered with 429", ["account", "kind"]
)
CIRCUIT_OPEN = Gauge(
    "asr_gateway_circuit_open",
    "1 while nothing is submitted through the circuit; `model` is empty for the circuit of all models, 0 without one",
    ["account", "model", "code"],
)
IN_FLIGHT = Gauge(
    "asr_gateway_tasks_in_flight", "Tasks that DashScope accepted and that are not collected", ["account"]
)
UNSURE = Gauge(
    "asr_gateway_tasks_unsure", "Submits whose response was lost and that are not reconciled yet", ["account"]
)
WAITING_FILES = Gauge("asr_gateway_files_waiting", "Files that wait to be submitted", ["region", "model"])
WAITING_SECONDS = Gauge("asr_gateway_files_waiting_seconds", "Age of the file that waits longest", ["region", "model"])
UNCOLLECTED_SECONDS = Gauge(
    "asr_gateway_results_uncollected_seconds", "Age of the oldest result that is not stored yet", ["account"]
)
BUDGET_RATE = Gauge("asr_gateway_budget_rate", "Calls per second that a budget allows now", ["account", "kind"])
BUDGET_LIMIT = Gauge("asr_gateway_budget_limit", "Calls per second of a budget in full", ["account", "kind"])
PENDING_DELIVERIES = Gauge("asr_gateway_webhooks_pending", "Webhook events that are not delivered yet")
PENDING_DELIVERY_SECONDS = Gauge("asr_gateway_webhooks_pending_seconds", "Age of the oldest event not delivered yet")
UNINDEXED = Gauge("asr_gateway_search_segments_unindexed", "Segments of transcripts that wait for the search index")
GROUP_FILES = Histogram(
    "asr_gateway_task_files", "Files in one submitted task", ["model"], buckets=(1, 2, 5, 10, 20, 50, 100)
)
TASK_SECONDS = Histogram(
    "asr_gateway_task_seconds",
    "Time from the submit of a task until its end was seen",
    ["account", "model"],
    buckets=(0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 10800, 86400),
)
PURGED = Counter("asr_gateway_jobs_purged_total", "Finished jobs deleted after RETENTION_DAYS")
DELIVERY_ATTEMPTS = Counter("asr_gateway_webhook_attempts_total", "Attempts to deliver a webhook event", ["outcome"])


async def measure(sessions: Sessions, accounts: Collection[str]) -> None:
    """Set the gauges that describe the whole database. `accounts` are the configured ones. Seven statements.

    Gauges are 0 where nothing waits, so that an alert or a graph has a value.
    """
    async with transaction(sessions) as session:
        waiting = await count_waiting_files(session)
        tasks = {(each.account, each.state): each.count for each in await count_open_tasks(session)}
        uncollected = await oldest_uncollected_s(session)
        circuits = await read_circuits(session)
        budgets = await read_budgets(session)
        deliveries = await read_backlog(session)
        UNINDEXED.set(await count_unindexed(session))
    PENDING_DELIVERIES.set(deliveries.deliveries)
    PENDING_DELIVERY_SECONDS.set(deliveries.oldest_s)
    _show_waiting(waiting, {account.partition("/")[0] for account in accounts})
    _show_circuits(circuits, accounts)
    for budget in budgets:
        if budget.account in accounts:
            BUDGET_RATE.labels(budget.account, budget.kind).set(budget.current_rate)
            BUDGET_LIMIT.labels(budget.account, budget.kind).set(budget.rate)
    for account in accounts:
        IN_FLIGHT.labels(account).set(tasks.get((account, "running"), 0))
        UNSURE.labels(account).set(tasks.get((account, "unsure"), 0))
        UNCOLLECTED_SECONDS.labels(account).set(uncollected.get(account, 0))


def _show_waiting(waiting: Sequence[WaitingFiles], regions: Collection[str]) -> None:
    found = {(each.region, each.model): each for each in waiting}
    known = {(region, model) for model in MODELS for region in regions if region in MODELS[model].regions}
    WAITING_FILES.clear()
    WAITING_SECONDS.clear()
    for key in known | found.keys():
        each = found.get(key)
        WAITING_FILES.labels(*key).set(each.files if each else 0)
        WAITING_SECONDS.labels(*key).set(each.oldest_s if each else 0)


def _show_circuits(circuits: Sequence[Circuit], accounts: Collection[str]) -> None:
    blocked = {circuit.account for circuit in circuits if not circuit.model}
    CIRCUIT_OPEN.clear()
    for account in accounts:
        if account not in blocked:
            CIRCUIT_OPEN.labels(account, "", "").set(0)
    for circuit in circuits:
        if circuit.account in accounts:
            CIRCUIT_OPEN.labels(circuit.account, circuit.model, circuit.code).set(1)
