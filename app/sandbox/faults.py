"""Trouble to order: the knobs that `PUT /control/faults` turns while the sandbox runs."""

from typing import Annotated, Literal

import msgspec

Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]
Span = Annotated[float, msgspec.Meta(ge=0)]


class RefusedKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Calls that are refused as for an account without the right, the money or the quota."""

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
    """Empty: every key."""
    model: str = ""
    """Empty: every model, and calls without one. Else submits of this model only."""
    kinds: tuple[Literal["submit", "query", "list", "cancel"], ...] = ()
    """Empty: every kind of call."""

    def fits(self, kind: str, key: str, model: str) -> bool:
        """`model` is empty before it is known, and in calls without one."""
        return self.key in {"", key} and self.model == model and (not self.kinds or kind in self.kinds)


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rate is the share of calls that meet the trouble, 0 to 1; a span is in seconds."""

    down: bool = False
    """Every API call is answered 503."""
    slow_s: Span = 0.0
    """Every API call is answered this much later."""
    throttle_rate: Rate = 0.0
    html_rate: Rate = 0.0
    """API calls answered by some proxy's HTML page, with 200 or 502."""

    drop_submit_rate: Rate = 0.0
    """The connection ends without an answer after the task was made."""
    lose_submit_rate: Rate = 0.0
    """The connection ends without an answer before the task was made."""
    error_submit_rate: Rate = 0.0
    """500 or 503; half of them although the task was made."""

    unknown_s: Span = 0.0
    """How long a new task is UNKNOWN to queries, as on an eventually consistent back end."""
    list_lag_s: Span = 0.0
    """How long a new task is missing from the list."""
    list_refused: bool = False
    extra_fields: bool = False
    """Answers and results carry fields that no document names."""
    unescape_echo: bool = False
    """The `file_url` of answers and results has the escapes of the URL that was sent undone."""

    refused: tuple[RefusedKey, ...] = ()
    """Keys that are refused, for all calls or some, for all models or one."""

    results_down: bool = False
    truncate_result_rate: Rate = 0.0
    html_result_rate: Rate = 0.0
