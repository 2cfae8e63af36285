"""`/v1/transcripts/{id}/…` as text and as captions: plain text, SubRip, WebVTT and TTML."""

from dataclasses import replace
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from app.api.parameters import DIGITS
from app.clients.authentication import AuthenticatedRoute
from app.transcripts import captions
from app.transcripts.caption_options import CaptionOptions, CaptionProfile, SpeakerStyle, caption_options
from app.transcripts.responses import (
    CueWriter,
    Representation,
    TranscriptRequestDep,
    render_captions,
    render_text,
)
from app.transcripts.routes import Bom, ChannelId, Speakers, document_responses

router = APIRouter(prefix="/v1/transcripts", route_class=AuthenticatedRoute, tags=["transcripts"])

LineLength = Annotated[
    int | None,
    Query(
        ge=4,
        le=500,
        description="In columns: a Chinese character takes two columns, a Latin letter one. "
        "Default: that of the profile, or 42.",
    ),
    DIGITS,
]
LineCount = Annotated[
    int | None,
    Query(ge=1, le=20, description="Maximum number of lines per caption. Default: that of the profile, or 2."),
    DIGITS,
]
Profile = Annotated[
    CaptionProfile | None,
    Query(description="Limits of a published guideline for line length, lines, reading speed, duration and gaps."),
]
Style = Annotated[
    SpeakerStyle,
    Query(description="With `speakers`: their names, or a dash before the first words of another speaker."),
]
_TTML = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<tt xmlns="http://www.w3.org/ns/ttml" xml:lang=""><body><div>\n'
    '<p begin="00:00:00.760" end="00:00:02.000">Hello World.</p>\n</div></body></tt>\n'
)


async def _options(
    *,
    channel_id: ChannelId = None,
    max_chars_per_line: LineLength = None,
    max_lines: LineCount = None,
    speakers: Speakers = False,
    speaker_style: Style = SpeakerStyle.NAME,
    profile: Profile = None,
) -> CaptionOptions:
    options = caption_options(profile, max_chars_per_line=max_chars_per_line, max_lines=max_lines)
    return replace(options, channel_id=channel_id, speakers=speakers, speaker_style=speaker_style)


OptionsDep = Annotated[CaptionOptions, Depends(_options)]


@router.get(
    "/{transcript_id}/text",
    operation_id="getTranscriptText",
    summary="Get a transcript as plain text",
    response_class=Response,
    responses=document_responses("text/plain", "Hello World."),
)
async def get_transcript_text(
    transcript: TranscriptRequestDep,
    *,
    options: OptionsDep,
    bom: Bom = False,
) -> Response:
    """All channels, separated by newlines. With `speakers`, one line each time the speaker changes.

    With `max_chars_per_line`, `max_lines` or `profile`, the lines are those of the captions. With `max_lines` or
    `profile`, a blank line separates captions.
    \f
    One statement.
    """
    given = sorted({"max_chars_per_line", "max_lines", "profile"}.intersection(transcript.request.query_params))
    if given:
        write = partial(captions.text, blank_lines=given != ["max_chars_per_line"])
        render = partial(render_captions, options=options, write=write)
    else:
        render = partial(render_text, channel_id=options.channel_id, speakers=options.speakers)
    form = Representation(
        "text/plain; charset=utf-8", options.channel_id, (given, options), render, extension="txt", bom=bom
    )
    return await transcript.serve(form)


@router.get(
    "/{transcript_id}/srt",
    operation_id="getTranscriptSrt",
    summary="Get a transcript as SubRip captions",
    response_class=Response,
    responses=document_responses("application/x-subrip", "1\n00:00:00,760 --> 00:00:02,000\nHello World.\n\n"),
)
async def get_transcript_srt(
    transcript: TranscriptRequestDep,
    *,
    options: OptionsDep,
    bom: Bom = False,
) -> Response:
    """Sentences are divided at pauses and after punctuation. The times are those of the words.

    Signs that players would take for markup are written as look-alikes, such as `＜b＞`.
    \f
    One statement.
    """
    form = _captions("application/x-subrip; charset=utf-8", options, captions.srt, "srt", bom=bom)
    return await transcript.serve(form)


@router.get(
    "/{transcript_id}/vtt",
    operation_id="getTranscriptVtt",
    summary="Get a transcript as WebVTT captions",
    response_class=Response,
    responses=document_responses("text/vtt", "WEBVTT\n\n00:00:00.760 --> 00:00:02.000\nHello World.\n"),
)
async def get_transcript_vtt(
    transcript: TranscriptRequestDep,
    *,
    options: OptionsDep,
    bom: Bom = False,
) -> Response:
    """The same captions as SubRip's. With `speakers`, each speaker is a WebVTT voice.
    \f
    One statement.
    """
    form = _captions("text/vtt; charset=utf-8", options, captions.vtt, "vtt", bom=bom)
    return await transcript.serve(form)


@router.get(
    "/{transcript_id}/ttml",
    operation_id="getTranscriptTtml",
    summary="Get a transcript as TTML captions",
    response_class=Response,
    responses=document_responses("application/ttml+xml", _TTML),
)
async def get_transcript_ttml(
    transcript: TranscriptRequestDep,
    *,
    options: OptionsDep,
    bom: Bom = False,
) -> Response:
    """The same captions as SubRip's, in the text profile of IMSC 1.1.
    \f
    One statement.
    """
    form = _captions("application/ttml+xml; charset=utf-8", options, captions.ttml, "ttml", bom=bom)
    return await transcript.serve(form)


def _captions(
    media_type: str, options: CaptionOptions, write: CueWriter, extension: str, *, bom: bool
) -> Representation:
    render = partial(render_captions, options=options, write=write)
    return Representation(media_type, options.channel_id, options, render, extension, bom=bom)
