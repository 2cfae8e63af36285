"""The poller's counters for `/metrics`. Labels are account names, models and words of our own; never URLs."""

from prometheus_client import Counter, Histogram

CALLS = Counter("asr_upstream_calls_total", "Calls to DashScope", ["account", "kind", "outcome"])
THROTTLED = Counter("asr_upstream_throttled_total", "Calls that DashScope answered with 429", ["account", "kind"])
FILES = Counter("asr_files_finished_total", "Files that reached a final state", ["model", "region", "status"])
GROUP_FILES = Histogram("asr_task_files", "Files in one submitted task", ["model"], buckets=(1, 2, 5, 10, 20, 50, 100))
TASK_SECONDS = Histogram(
    "asr_task_seconds",
    "From the submit of a task until its end was seen",
    ["account", "model"],
    buckets=(0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 10800, 86400),
)
DELIVERY_ATTEMPTS = Counter("asr_webhook_attempts_total", "Tries to deliver an event to a webhook", ["outcome"])
