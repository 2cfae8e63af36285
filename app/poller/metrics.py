"""The poller's metrics for `/metrics`. Labels are account names, models and the gateway's own codes; never URLs."""

from prometheus_client import Counter, Gauge, Histogram

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
