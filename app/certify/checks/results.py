"""Checks of result files and their links."""

import re
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

from app.catalogue.sensevoice import EMOTIONS, EVENTS
from app.certify.evidence import Evidence, Unseen, Watched
from app.certify.registry import Seen, Subject
from app.dashscope import wire
from app.dashscope.bodies import ENCODINGS
from app.dashscope.clock import BEIJING
from app.dashscope.result_files import FetchFailed, FetchFailureKind, is_dashscope_host
from app.errors import GatewayError
from app.poller.assignment import is_of
from app.transcripts.normalise import normalise

subject = Subject()
_DAY_S = 24 * 3600
_TAG = re.compile(r"<\|/?([^|>]{1,40})\|>")


def _links(task: Watched) -> list[str]:
    links = [item.transcription_url for item in task.ended.items if item.transcription_url]
    if not links:
        raise Unseen("no file of the task has a result")
    return links


def _document(evidence: Evidence, name: str) -> bytes:
    fetched = evidence.result(name)
    if isinstance(fetched, FetchFailed):
        raise Unseen(fetched.detail)
    return fetched


@subject.check(
    "correctness",
    "Results are on a host below `aliyuncs.com`, or on the host of the base URL.",
    "Transcripts would be billed and not fetched.",
)
def result_host(evidence: Evidence) -> Seen:
    links = _links(evidence.task("main"))
    text = ", ".join(sorted({f"{urlsplit(link).scheme}://{urlsplit(link).hostname}" for link in links}))
    return Seen(all(is_dashscope_host(link, evidence.base_url) for link in links), text)


@subject.check(
    "correctness",
    "A result link is valid for 24 hours from the end of its task.",
    "Results of a gateway that was down could be lost earlier than it expects.",
)
def result_lifetime(evidence: Evidence) -> Seen:
    task = evidence.task("main")
    expires = parse_qs(urlsplit(_links(task)[0]).query).get("Expires")
    if not expires:
        raise Unseen("the link does not say when it expires")
    ended_at = datetime.fromisoformat(task.output["end_time"]).replace(tzinfo=BEIJING).timestamp()
    # The zone of `end_time` is checked elsewhere: here another zone must not count.
    lifetime_s = int(expires[0]) - max(ended_at, task.sent_at)
    return Seen(lifetime_s >= _DAY_S - 600, f"{lifetime_s / 3600:.1f} hours")


@subject.check(
    "information",
    "Each query of an ended task gives the same result links.",
    "A second query would give a link that is valid for longer.",
)
def requery_links(evidence: Evidence) -> Seen:
    first = _links(evidence.task("main"))
    items = wire.parse_task(evidence.call("requery").body).items
    second = [item.transcription_url for item in items if item.transcription_url]
    if sorted(first) == sorted(second):
        return Seen(True, "the same links")
    paths = [sorted(link.partition("?")[0] for link in links) for links in (first, second)]
    return Seen(False, "new signatures" if paths[0] == paths[1] else "new links")


@subject.check(
    "correctness",
    "A link that is not valid gets 403, 404 or 410.",
    "An expired link would be fetched again and again.",
)
def invalid_link(evidence: Evidence) -> Seen:
    fetched = evidence.result("altered")
    if not isinstance(fetched, FetchFailed):
        return Seen(False, "a link with a wrong signature was served")
    if fetched.kind is FetchFailureKind.FORBIDDEN:
        raise Unseen(fetched.detail)
    return Seen(fetched.kind is FetchFailureKind.EXPIRED, fetched.detail)


@subject.check(
    "correctness",
    "Results are sent as they are, or with gzip or deflate.",
    "Transcripts would be billed and not read.",
)
def result_encoding(evidence: Evidence) -> Seen:
    exchange = evidence.call("result main")
    encoding = exchange.headers.get("content-encoding", "")
    return Seen(encoding.strip().lower() in ENCODINGS, encoding or "none")


@subject.check(
    "correctness",
    "A result is a document of the documented shape.",
    "Transcripts would be stored as bytes only, and shown as unreadable.",
)
def result_document(evidence: Evidence) -> Seen:
    task = evidence.task("main")
    content = _document(evidence, "main")
    try:
        document = normalise(content, file_url=task.file_urls[0], family="fun-asr")
    except GatewayError as error:
        return Seen(False, error.detail)
    length = f"{document.audio_duration_ms} ms" if document.audio_duration_ms else "no duration"
    channels = len(document.channel_transcripts)
    return Seen(channels == 1 and bool(document.text), f"{channels} channel, {len(document.text)} characters, {length}")


@subject.check(
    "correctness",
    "A result document names the file of its task.",
    "The gateway would refuse its own transcripts as those of another file.",
)
def result_names_file(evidence: Evidence) -> Seen:
    task = evidence.task("main")
    named = wire.parse_result_url(_document(evidence, "main"))
    link = _links(task)[0]
    item = next(item for item in task.ended.items if item.transcription_url == link)
    return Seen(named == item.file_url and any(is_of(url, named) for url in task.file_urls), str(named))


@subject.check(
    "correctness",
    "SenseVoice's texts have only the documented tags.",
    "Unknown tags would be taken out of the text without being stored.",
)
def sensevoice_tags(evidence: Evidence) -> Seen:
    text = _document(evidence, "sensevoice").decode("utf-8", "replace")
    tags = set(_TAG.findall(text))
    unknown = sorted(tags - {*EVENTS, *EMOTIONS, "SPECIAL_TOKEN_1"})
    return Seen(bool(tags) and not unknown, f"unknown: {', '.join(unknown)}" if unknown else ", ".join(sorted(tags)))
