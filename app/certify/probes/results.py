"""Fetches result files, and tries a second query and a link with a wrong signature."""

from app.certify.evidence import Unseen
from app.certify.probes.session import ProbeSession


async def probe_results(session: ProbeSession) -> None:
    with session.probing("main", "altered"):
        url = _first_link(session, "main")
        await _fetch(session, "main", url)
        await _fetch(session, "altered", _with_wrong_signature(url))
    with session.probing("requery"):
        task = session.evidence.task("main")
        if task.task_id is None or not task.has_ended:
            raise Unseen("the task has not ended")
        session.evidence.calls["requery"] = await session.upstream.query(task.task_id)
    with session.probing("sensevoice"):
        await _fetch(session, "sensevoice", _first_link(session, "sensevoice"))


def _first_link(session: ProbeSession, name: str) -> str:
    links = [item.transcription_url for item in session.evidence.task(name).ended.items if item.transcription_url]
    if not links:
        raise Unseen("no file of the task has a result")
    return links[0]


async def _fetch(session: ProbeSession, name: str, url: str) -> None:
    before = len(session.evidence.exchanges)
    session.evidence.fetched[name] = await session.upstream.fetch(url)
    if len(session.evidence.exchanges) > before:
        session.evidence.calls[f"result {name}"] = session.evidence.exchanges[-1]


def _with_wrong_signature(url: str) -> str:
    head, mark, tail = url.partition("Signature=")
    if not mark:
        raise Unseen("the link has no Signature")
    first = "B" if tail[:1] == "A" else "A"
    return f"{head}{mark}{first}{tail[1:]}"
