"""Opens and closes circuits, and logs each change once."""

from dataclasses import replace

import structlog

from app.dashscope.circuits import close_circuit, open_circuit
from app.dashscope.failures import Failure, FailureKind
from app.dashscope.quoted_urls import hide_other_urls
from app.db import Session

log = structlog.get_logger()

_WHOLE_ACCOUNT = frozenset({FailureKind.ACCOUNT_BLOCKED, FailureKind.TRANSIENT})


async def open_for(session: Session, account: str, model: str, failure: Failure) -> None:
    """Open the circuit that the failure is about: that of the whole account, or that of the account and model.

    Does nothing for a failure about one model if `model` is empty.
    """
    scope = "" if failure.kind in _WHOLE_ACCOUNT else model
    if not scope and failure.kind not in _WHOLE_ACCOUNT:
        return
    # The message is stored and shown for files of other clients, so it must not quote the URL of a file.
    failure = replace(failure, message=hide_other_urls(failure.message, ""))
    if await open_circuit(session, account, scope, failure):
        log.error(
            "circuit opened",
            account=account,
            model=scope or None,
            code=failure.code,
            upstream_code=failure.upstream_code,
            message=failure.message,
        )


async def close(session: Session, account: str, model: str) -> None:
    """Close the circuit if it is open."""
    if await close_circuit(session, account, model):
        log.info("circuit closed", account=account, model=model or None)
