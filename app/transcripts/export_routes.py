"""`/v1/transcripts/{id}/…` for spreadsheets and documents: words, sentences, paragraphs and Markdown."""

from collections.abc import Callable, Iterator, Mapping
from heapq import merge
from typing import Any

from fastapi import APIRouter, Response

from app.clients.authentication import AuthenticatedRoute
from app.transcripts import csv_tsv, paragraphs
from app.transcripts.csv_tsv import SpokenSentence
from app.transcripts.document_reader import StoredDocument
from app.transcripts.responses import Representation, TranscriptRequestDep
from app.transcripts.routes import Bom, ChannelId, Speakers, document_responses
from app.transcripts.schemas import Paragraphs
from app.transcripts.sentence_borders import settle_marks
from app.transcripts.text import by_time

router = APIRouter(prefix="/v1/transcripts", route_class=AuthenticatedRoute, tags=["transcripts"])

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
    responses=document_responses("text/csv", _WORDS),
)
async def get_transcript_words_csv(
    transcript: TranscriptRequestDep,
    *,
    channel_id: ChannelId = None,
    bom: Bom = False,
) -> Response:
    """A row for each word, times in milliseconds. Only the header if the model returns no words, such as SenseVoice.

    A cell that a spreadsheet would run as a formula begins with an apostrophe.
    \f
    One statement.
    """
    form = _table("text/csv; charset=utf-8; header=present", "csv", csv_tsv.words_csv, channel_id, bom=bom)
    return await transcript.serve(form)


@router.get(
    "/{transcript_id}/sentences.tsv",
    operation_id="getTranscriptSentencesTsv",
    summary="Get a transcript's sentences as tab-separated values",
    response_class=Response,
    responses=document_responses("text/tab-separated-values", _SENTENCES),
)
async def get_transcript_sentences_tsv(
    transcript: TranscriptRequestDep,
    *,
    channel_id: ChannelId = None,
    bom: Bom = False,
) -> Response:
    """A line for each sentence of all channels, in order of time. Commas separate several emotions or events.

    A cell that a spreadsheet would run as a formula begins with an apostrophe.
    \f
    One statement.
    """
    form = _table("text/tab-separated-values; charset=utf-8", "tsv", csv_tsv.sentences_tsv, channel_id, bom=bom)
    return await transcript.serve(form)


@router.get(
    "/{transcript_id}/paragraphs",
    operation_id="getTranscriptParagraphs",
    summary="Get a transcript in paragraphs",
    response_model=Paragraphs,
    responses=document_responses(),
)
async def get_transcript_paragraphs(
    transcript: TranscriptRequestDep,
    *,
    channel_id: ChannelId = None,
) -> Response:
    """Consecutive sentences of one speaker. A paragraph ends at two seconds of silence, or after about 100 words.
    \f
    One statement.
    """

    def render(document: StoredDocument) -> Iterator[str]:
        return (piece.decode() for piece in paragraphs.paragraphs_json(_settled(document, channel_id)))

    form = Representation("application/json", channel_id, None, render)
    return await transcript.serve(form)


@router.get(
    "/{transcript_id}/markdown",
    operation_id="getTranscriptMarkdown",
    summary="Get a transcript as Markdown",
    response_class=Response,
    responses=document_responses("text/markdown", _MARKDOWN),
)
async def get_transcript_markdown(
    transcript: TranscriptRequestDep,
    *,
    channel_id: ChannelId = None,
    speakers: Speakers = True,
    bom: Bom = False,
) -> Response:
    """The paragraphs under the name of the file, each with its speaker in bold and the time at which it begins.
    \f
    One statement.
    """

    def render(document: StoredDocument) -> Iterator[str]:
        title = paragraphs.title_of(document.file_url)
        several = channel_id is None and len(document.channel_ids) > 1
        sentences = _settled(document, channel_id)
        return paragraphs.markdown(sentences, title=title, channels=several, speakers=speakers)

    form = Representation(
        "text/markdown; charset=utf-8; variant=CommonMark", channel_id, speakers, render, extension="md", bom=bom
    )
    return await transcript.serve(form)


def _table(
    media_type: str, extension: str, write: Callable[..., Iterator[str]], channel_id: int | None, *, bom: bool
) -> Representation:
    def render(document: StoredDocument) -> Iterator[str]:
        return write(_sentences(document, channel_id))

    return Representation(media_type, channel_id, None, render, extension, bom=bom)


def _sentences(document: StoredDocument, channel_id: int | None) -> Iterator[SpokenSentence]:
    """The sentences of one channel or of all by their begin, as in captions."""
    names = [transcript.get("channel_id") for transcript in document.transcripts()]
    found = document.sentences(document.entries(channel_id), ahead=True)
    return (SpokenSentence(names[position.channel], sentence) for position, sentence in found)


def _settled(document: StoredDocument, channel_id: int | None) -> Iterator[SpokenSentence]:
    """The same for readers: marks stand in the sentence that they belong to."""
    channels = [_settled_channel(transcript) for transcript in document.transcripts(channel_id)]
    return merge(*channels, key=lambda spoken: spoken.sentence["begin_time"])


def _settled_channel(transcript: Mapping[str, Any]) -> Iterator[SpokenSentence]:
    name = transcript.get("channel_id")
    return (SpokenSentence(name, sentence) for sentence in settle_marks(by_time(transcript)))
