"""The errors for clients when DashScope refuses a call on a hot-word list. Pure."""

from collections.abc import Sequence

from app.catalogue.hot_words import MAX_LISTS
from app.dashscope.failures import Failure, FailureKind
from app.dashscope.vocabularies import is_limit
from app.errors import Fault, GatewayError, InvalidRequest, UpstreamUnavailable, VocabularyLimit
from app.vocabularies.reconciliation import Doubt

STILL_LISTED = (
    "DashScope responds that it does not have the list, but its lists show it or cannot be read. Send the request again"
    " in a moment."
)


def blames_words(failure: Failure) -> bool:
    """True if another account would refuse the request too."""
    return failure.kind is FailureKind.PERMANENT and failure.status in {400, 422} and not is_limit(failure)


def words_refused(failure: Failure) -> InvalidRequest:
    detail = f"is refused by DashScope: {failure.message}"
    return InvalidRequest(f"/vocabulary {detail}", faults=[Fault("/vocabulary", detail)])


def not_certain(outcome: Failure | Doubt, region: str) -> GatewayError:
    """The error if DashScope may have the list of an equal request."""
    if isinstance(outcome, Failure):
        return no_account([outcome], [region])
    return UpstreamUnavailable(
        "DashScope may have made this list for an earlier equal request, but its response was lost. That is not certain"
        f" yet: {outcome.reason}. Send the request again in a moment."
    )


def no_account(failures: Sequence[Failure], regions: Sequence[str]) -> GatewayError:
    """The error if no account of the regions did what was asked, for the reasons of the failures."""
    kinds = {failure.kind for failure in failures if not is_limit(failure)}
    place = " and ".join(regions)
    if kinds & {FailureKind.TRANSIENT, FailureKind.THROTTLED}:
        throttled = "limits the rate of calls now" if FailureKind.THROTTLED in kinds else "does not respond"
        return UpstreamUnavailable(f"DashScope {throttled}; try again in a moment.")
    if any(is_limit(failure) for failure in failures):
        return VocabularyLimit(
            f"The accounts of {place} have as many hot-word lists as DashScope allows, {MAX_LISTS} each over all"
            " clients and models; delete a list that is not needed, or put more words into one list."
        )
    if FailureKind.ACCOUNT_BLOCKED in kinds:
        return UpstreamUnavailable(
            f"DashScope refuses the key or the bill of the accounts of {place}; an operator has to act (see `doctor`)."
        )
    reason = failures[0].message if failures else "the gateway has no key"
    return UpstreamUnavailable(f"No account of {place} may do this: {reason}")
