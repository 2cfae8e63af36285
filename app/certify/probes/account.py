"""Calls without a task: the key, errors, quotas and hot words. They cost nothing."""

from uuid import uuid4

from app.certify.evidence import Exchange, Unseen
from app.certify.probes.session import MODEL, ProbeSession, absent
from app.dashscope.failures import FailureKind
from app.errors import GatewayError

PREFIX = "certify"
_VOCABULARY_PATH = "/services/audio/asr/customization"
_WORDS = [{"text": "语音实验室", "weight": 4, "lang": "zh"}]


class KeyRefused(GatewayError):
    """Nothing can be checked with this key."""


async def probe_key(session: ProbeSession) -> None:
    """A query of a task that does not exist. Raises KeyRefused, or Unseen if the region does not respond."""
    exchange = session.evidence.calls["unknown_task"] = await session.upstream.query(str(uuid4()))
    failure = exchange.failure
    if failure is not None and failure.kind is FailureKind.ACCOUNT_BLOCKED:
        raise KeyRefused(f"The key of {session.evidence.account} is refused: {exchange.error_text}")


async def probe_errors(session: ProbeSession, other_base_url: str) -> None:
    calls, upstream = session.evidence.calls, session.upstream
    path = f"/tasks/{uuid4()}"
    with session.probing("invalid_key"):
        calls["invalid_key"] = await upstream.call("GET", path, key="sk-certify-not-a-key")
    with session.probing("other_region"):
        calls["other_region"] = await upstream.call("GET", path, base_url=other_base_url)
    with session.probing("unknown_model"):
        calls["unknown_model"] = await upstream.submit("certify-no-such-model", absent(1), {})
    with session.probing("cancel_unknown"):
        calls["cancel_unknown"] = await upstream.cancel(str(uuid4()))
    with session.probing("quotas"):
        calls["quotas"] = await upstream.call("GET", "/quotas", params={"page_no": 1, "page_size": 20})


async def probe_vocabulary(session: ProbeSession) -> None:
    """Creates a list of hot words, reads it and deletes it."""
    calls = session.evidence.calls
    names = ("vocabulary_list", "vocabulary_query", "vocabulary_delete")
    with session.probing("vocabulary_create", *names):
        create = {"target_model": MODEL, "prefix": PREFIX, "vocabulary": _WORDS}
        created = calls["vocabulary_create"] = await _customize(session, "create_vocabulary", **create)
        vocabulary_id = created.output.get("vocabulary_id") if created.failure is None else None
        if not isinstance(vocabulary_id, str):
            raise Unseen("no list was created")
        session.vocabularies.append(vocabulary_id)
        listed = {"prefix": PREFIX, "page_index": 0, "page_size": 10}
        calls["vocabulary_list"] = await _customize(session, "list_vocabulary", **listed)
        calls["vocabulary_query"] = await _customize(session, "query_vocabulary", vocabulary_id=vocabulary_id)
        calls["vocabulary_delete"] = await delete_vocabulary(session, vocabulary_id)


async def delete_vocabulary(session: ProbeSession, vocabulary_id: str) -> Exchange:
    deleted = await _customize(session, "delete_vocabulary", vocabulary_id=vocabulary_id)
    if deleted.failure is None:
        session.vocabularies.remove(vocabulary_id)
    return deleted


async def _customize(session: ProbeSession, action: str, **fields: object) -> Exchange:
    body = {"model": "speech-biasing", "input": {"action": action, **fields}, "parameters": {}}
    return await session.upstream.call("POST", _VOCABULARY_PATH, json=body)
