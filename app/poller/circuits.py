"""Opening and closing circuits, each with one line in the log."""

from dataclasses import replace

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.dashscope.circuits import close_circuit, open_circuit
from app.dashscope.failures import Failure, FailureKind
from app.dashscope.quoted_urls import hide_other_urls

log = structlog.get_logger()


async def open_for(session: AsyncSession, account: str, model: str, failure: Failure) -> None:
    """Open the circuit that the refusal of a call is about: the account's own, or that of the account and model.

    A refusal for one model without a model is none of a submit, and opens nothing.
    """
    scope = "" if failure.kind in {FailureKind.ACCOUNT_BLOCKED, FailureKind.TRANSIENT} else model
    if not scope and failure.kind not in {FailureKind.ACCOUNT_BLOCKED, FailureKind.TRANSIENT}:
        return
    # The message outlives the submit, and is shown for others' files, whose URLs it may quote.
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


async def close(session: AsyncSession, account: str, model: str) -> None:
    """Close the circuit if it is open."""
    if await close_circuit(session, account, model):
        log.info("circuit closed", account=account, model=model or None)
