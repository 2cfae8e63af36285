"""Faults that the sandbox injects. `PUT /control/faults` changes them while the sandbox runs."""

from typing import Annotated, Literal

import msgspec

Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]
Quirk = Literal[
    "absent_channel_refused",
    "bad_link_400",
    "cancel_refused",
    "early_results",
    "failed_files_billed",
    "failed_item_without_code",
    "first_results_only",
    "invalid_key_400",
    "list_filters_ignored",
    "list_oldest_first",
    "list_running_only",
    "list_small_pages",
    "list_times_in_seconds",
    "list_windows_in_new_york",
    "list_windows_in_utc",
    "more_files_accepted",
    "nested_errors",
    "new_links",
    "no_task_metrics",
    "policy_without_signature",
    "quotas",
    "result_encoding",
    "result_of_another_file",
    "results_without_urls",
    "retry_after",
    "silence_succeeds",
    "stale_list",
    "submit_without_id",
    "throttling_renamed",
    "unknown_model_accepted",
    "unknown_parameter_refused",
    "unknown_state",
    "unknown_tag",
    "unknown_task_404",
    "upload_echo_renamed",
    "uploads_unreadable",
    "usage_in_ms",
    "utc_times",
    "vocabulary_undeletable",
    "vocabulary_unlisted",
    "vocabulary_unusable",
    "vocabulary_without_id",
]
"""A way in which the live service may differ from its documents. docs/sandbox.md describes each."""

Span = Annotated[float, msgspec.Meta(ge=0)]


class RefusedKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Calls that are refused as for an account without permission, credit or quota."""

    code: Literal[
        "InvalidApiKey",
        "Arrearage",
        "AccessDenied",
        "AccessDenied.Unpurchased",
        "AllocationQuota.FreeTierOnly",
        "Model.AccessDenied",
        "ModelNotFound",
        "Workspace.AccessDenied",
    ]
    key: str = ""
    """Empty for every key."""
    model: str = ""
    """Empty for all calls. Otherwise only submits of this model."""
    kinds: tuple[Literal["submit", "query", "list", "cancel", "vocabulary"], ...] = ()
    """Empty for every kind of call."""

    def fits(self, kind: str, key: str, model: str) -> bool:
        """True if the call is refused. `model` is empty for calls without a model, and before the body is read."""
        return self.key in {"", key} and self.model == model and (not self.kinds or kind in self.kinds)


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rate is the share of calls with the fault, from 0 to 1. A span is in seconds."""

    down: bool = False
    """Every API call gets a 503."""
    slow_s: Span = 0.0
    """Every API call takes this much longer."""
    throttle_rate: Rate = 0.0
    html_rate: Rate = 0.0
    """API calls get the HTML page of a proxy, with 200 or 502."""

    drop_submit_rate: Rate = 0.0
    """The connection ends without a response after the task is created."""
    lose_submit_rate: Rate = 0.0
    """The connection ends without a response, and no task is created."""
    error_submit_rate: Rate = 0.0
    """500 or 503. In half of the cases the task is created."""

    unknown_s: Span = 0.0
    """Time for which queries report a new task as UNKNOWN, as an eventually consistent store does."""
    list_lag_s: Span = 0.0
    """Time for which a new task is missing from the list."""
    list_refused: bool = False
    extra_fields: bool = False
    """Responses and results have undocumented fields."""
    unescape_echo: bool = False
    """The `file_url` of responses and results is the submitted URL with its escapes decoded."""
    repeat_results: bool = False
    """Queries show each member of `results` twice."""

    drop_vocabulary_rate: Rate = 0.0
    """The connection ends without a response after a hot-word list is created, updated or deleted."""
    lose_vocabulary_rate: Rate = 0.0
    """The connection ends without a response, and nothing is created, updated or deleted."""
    error_vocabulary_rate: Rate = 0.0
    """500. In half of the cases the list is created, updated or deleted."""
    vocabularies_down: bool = False
    """Every call on hot-word lists gets a 503. Other calls succeed."""

    error_upload_rate: Rate = 0.0
    """The storage host of temporary uploads responds 500."""

    refused: tuple[RefusedKey, ...] = ()
    """Keys that are refused, for some or all calls and models."""

    quirks: frozenset[Quirk] = frozenset()
    """Differences from the documented protocol."""

    results_down: bool = False
    truncate_result_rate: Rate = 0.0
    html_result_rate: Rate = 0.0
