"""`/v1/transcripts/{id}/…` for spreadsheets and documents: words, sentences, paragraphs, Markdown."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from operator import itemgetter
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Request, Response

from app.api.dependencies import SessionsDep
from app.clients.dependencies import ClientDep, ClientRoute
from app.transcripts import paragraphs, tables
from app.transcripts.export_schemas import Paragraphs
from app.transcripts.plain import in_time, select
from app.transcripts.reading import StoredBody
from app.transcripts.routes import ChannelId, _document, _document_responses, _render
from app.transcripts.tables import Spoken

router = APIRouter(prefix="/v1/transcripts", route_class=ClientRoute, tags=["transcripts"])

_GZIP = 31  # zlib's window bits for gzip

Bom = Annotated[bool, Query(description="Begin with a byte order mark, without which Excel does not read UTF-8.")]
Names = Annotated[bool, Query(description="Say who speaks, where the transcript knows it.")]

_WORDS = "channel_id,speaker_id,begin_time,end_time,text,punctuation\r\n0,,760,1320,Hello,\r\n0,,1320,2000,World,.\r\n"
_SENTENCES = (
    "begin_time\tend_time\tchannel_id\tspeaker_id\ttext\temotion\tevent\n760\t2000\t0\t\tHello World.\tHAPPY\tSpeech\n"
)
_MARKDOWN = "# call-4711.wav\n\n**Speaker 0** [00:00:00] Hello World.\n"


@router.get(
    "/{transcript_id}/words.csv",
    operation_id="getTranscriptWordsCsv",
    summary="Get a transcript's words as CSV",
    response_class=Response,
    responses=_document_responses("text/csv", _WORDS),
)
async def get_transcript_words_csv(
    request: Request,
    transcript_id: UUID,
    *,
    client: ClientDep,
    sessions: SessionsDep,
    channel_id: ChannelId = None,
    bom: Bom = False,
) -> Response:
    """A row for each word, times in milliseconds; only the header if the model sends no words, as SenseVoice.

    A cell that a spreadsheet would take for a formula begins with an apostrophe.
    \f
    One statement, and the token's.
    """
    document = await _document(sessions, client.id, transcript_id)

    def render() -> bytes:
        return "".join(tables.words_csv(_read(document, channel_id).spoken, bom=bom)).encode()

    return await _render(request, document, render, "text/csv; charset=utf-8; header=present")


@router.get(
    "/{transcript_id}/sentences.tsv",
    operation_id="getTranscriptSentencesTsv",
    summary="Get a transcript's sentences as tab-separated values",
    response_class=Response,
    responses=_document_responses("text/tab-separated-values", _SENTENCES),
)
async def get_transcript_sentences_tsv(
    request: Request,
    transcript_id: UUID,
    *,
    client: ClientDep,
    sessions: SessionsDep,
    channel_id: ChannelId = None,
    bom: Bom = False,
) -> Response:
    """A line for each sentence of all channels, in order of time; several emotions or events are parted by commas.

    A cell that a spreadsheet would take for a formula begins with an apostrophe.
    \f
    One statement, and the token's.
    """
    document = await _document(sessions, client.id, transcript_id)

    def render() -> bytes:
        return "".join(tables.sentences_tsv(_read(document, channel_id).spoken, bom=bom)).encode()

    return await _render(request, document, render, "text/tab-separated-values; charset=utf-8")


@router.get(
    "/{transcript_id}/paragraphs",
    operation_id="getTranscriptParagraphs",
    summary="Get a transcript in paragraphs",
    response_model=Paragraphs,
    responses=_document_responses(),
)
async def get_transcript_paragraphs(
    request: Request, transcript_id: UUID, *, client: ClientDep, sessions: SessionsDep, channel_id: ChannelId = None
) -> Response:
    """Sentences of one speaker that follow each other. Two seconds of silence end a paragraph, or some 100 words.
    \f
    One statement, and the token's.
    """
    document = await _document(sessions, client.id, transcript_id)

    def render() -> bytes:
        return b"".join(paragraphs.paragraphs_json(_read(document, channel_id).spoken))

    return await _render(request, document, render, "application/json")


@router.get(
    "/{transcript_id}/markdown",
    operation_id="getTranscriptMarkdown",
    summary="Get a transcript as Markdown",
    response_class=Response,
    responses=_document_responses("text/markdown", _MARKDOWN),
)
async def get_transcript_markdown(
    request: Request,
    transcript_id: UUID,
    *,
    client: ClientDep,
    sessions: SessionsDep,
    channel_id: ChannelId = None,
    speakers: Names = True,
) -> Response:
    """The paragraphs under the file's name, each with its begin, and with its speaker in bold.
    \f
    One statement, and the token's.
    """
    document = await _document(sessions, client.id, transcript_id)

    def render() -> bytes:
        read = _read(document, channel_id)
        title = paragraphs.title_of(read.file_url)
        pieces = paragraphs.markdown(read.spoken, title=title, channels=read.channels > 1, speakers=speakers)
        return "".join(pieces).encode()

    return await _render(request, document, render, "text/markdown; charset=utf-8; variant=CommonMark")


class _Read(NamedTuple):
    """What exports need of a stored document. `channels`: how many are shown."""

    file_url: str
    channels: int
    spoken: Iterator[Spoken]


def _read(document: StoredBody, channel_id: int | None) -> _Read:
    body: dict[str, Any] = orjson.loads(zlib.decompress(document.gzip, _GZIP, document.size_bytes))
    chosen = select(body["transcripts"], channel_id)
    return _Read(body["file_url"], len(chosen), _in_order(chosen))


def _in_order(transcripts: Sequence[Mapping[str, Any]]) -> Iterator[Spoken]:
    """The sentences of all channels by their begin, as captions have them."""
    channels = [
        [(sentence["begin_time"], Spoken(transcript.get("channel_id"), sentence)) for sentence in in_time(transcript)]
        for transcript in transcripts
    ]
    return (spoken for _, spoken in merge(*channels, key=itemgetter(0)))
