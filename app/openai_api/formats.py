"""The response formats of OpenAI, rendered from a stored transcript sentence by sentence.

Times are in seconds. A segment is a sentence as DashScope cut it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import orjson

from app.openai_api.form import ResponseFormat, TranscriptionRequest
from app.transcripts import captions
from app.transcripts.captions import CaptionOptions
from app.transcripts.document_reader import StoredDocument
from app.transcripts.responses import Representation, render_captions, render_text

Render = Callable[[StoredDocument], Iterator[str]]

# Between a sentence and the place in the text where it is expected.
_MAX_GAP_CHARS = 200
# Clients require these fields, and DashScope has no values for them. Some clients drop segments that look like silence
# or repetition, which these values do not.
_NOT_MEASURED = {
    "seek": 0,
    "tokens": [],
    "temperature": 0.0,
    "avg_logprob": 0.0,
    "compression_ratio": 1.0,
    "no_speech_prob": 0.0,
}


def representation(request: TranscriptionRequest, duration_ms: int) -> Representation:
    text = "text/plain; charset=utf-8"
    media_types: Mapping[ResponseFormat, str] = {"text": text, "srt": text, "vtt": text}
    renders: Mapping[ResponseFormat, Render] = {
        "json": partial(_json, duration_ms=duration_ms),
        "text": partial(render_text, channel_id=None, speakers=False),
        "srt": partial(render_captions, options=CaptionOptions(), write=captions.srt),
        "vtt": partial(render_captions, options=CaptionOptions(), write=captions.vtt),
        "verbose_json": partial(_verbose_json, request=request, duration_ms=duration_ms),
        "diarized_json": partial(_diarized_json, duration_ms=duration_ms),
    }
    media_type = media_types.get(request.response_format, "application/json")
    return Representation(media_type, None, (request, duration_ms), renders[request.response_format])


def stream_events(document: StoredDocument, *, diarized: bool) -> Iterator[str]:
    """Server-sent events: the text in deltas that give the whole text together, then `transcript.text.done`."""
    text = document.text()
    done = 0
    for number, sentence in enumerate(_sentences(document)):
        end = _end_of(sentence["text"], text, done)
        segment = {"segment_id": f"seg_{number}"} if diarized else {}
        if end > done:
            yield _event({"type": "transcript.text.delta", "delta": text[done:end], **segment})
            done = end
        if diarized:
            yield _event(_diarized_segment(number, sentence))
    if done < len(text):
        yield _event({"type": "transcript.text.delta", "delta": text[done:]})
    yield _event({"type": "transcript.text.done", "text": text})
    yield "data: [DONE]\n\n"


def _end_of(sentence: str, text: str, start: int) -> int:
    """The end of the sentence in the text; `start` if the text is another one."""
    found = text.find(sentence, start, start + len(sentence) + _MAX_GAP_CHARS)
    return start if found < 0 else found + len(sentence)


def _event(event: Mapping[str, Any]) -> str:
    return f"data: {orjson.dumps(event).decode()}\n\n"


def _json(document: StoredDocument, duration_ms: int) -> Iterator[str]:
    yield orjson.dumps({"text": document.text(), **_usage(duration_ms)}).decode()


def _verbose_json(document: StoredDocument, request: TranscriptionRequest, duration_ms: int) -> Iterator[str]:
    language = next((each["language"] for each in _sentences(document) if each.get("language")), None)
    head = {
        "task": "transcribe",
        "language": language or request.language or "unknown",
        "duration": duration_ms / 1000,
        "text": document.text(),
        **_usage(duration_ms),
    }
    arrays = {}
    if "segment" in request.granularities:
        arrays["segments"] = (_segment(*each) for each in enumerate(_sentences(document)))
    if "word" in request.granularities:
        arrays["words"] = (_word(word) for each in _sentences(document) for word in each.get("words") or ())
    yield from _object(head, arrays)


def _diarized_json(document: StoredDocument, duration_ms: int) -> Iterator[str]:
    head = {
        "task": "transcribe",
        "duration": duration_ms / 1000,
        "text": document.text(),
        **_usage(duration_ms),
    }
    segments = (_diarized_segment(*each) for each in enumerate(_sentences(document)))
    yield from _object(head, {"segments": segments})


def _object(head: Mapping[str, Any], arrays: Mapping[str, Iterable[Any]]) -> Iterator[str]:
    """A JSON object whose arrays are written item by item: a recording of 12 hours has 150,000 words."""
    yield orjson.dumps(head).decode()[:-1]
    for name, items in arrays.items():
        yield f',"{name}":['
        for number, item in enumerate(items):
            yield f"{',' if number else ''}{orjson.dumps(item).decode()}"
        yield "]"
    yield "}"


def _sentences(document: StoredDocument) -> Iterator[dict[str, Any]]:
    """In order of time, over all channels."""
    return (sentence for _, sentence in document.sentences(document.entries(), ahead=True))


def _segment(number: int, sentence: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": number, **_span(sentence), "text": sentence["text"], **_NOT_MEASURED}


def _diarized_segment(number: int, sentence: Mapping[str, Any]) -> dict[str, Any]:
    speaker = _speaker(sentence.get("speaker_id"))
    head = {"type": "transcript.text.segment", "id": f"seg_{number}"}
    return {**head, **_span(sentence), "speaker": speaker, "text": sentence["text"]}


def _word(word: Mapping[str, Any]) -> dict[str, Any]:
    text = f"{word.get('text') or ''}{word.get('punctuation') or ''}".strip()
    return {"word": text, **_span(word)}


def _span(part: Mapping[str, Any]) -> dict[str, float]:
    return {"start": part["begin_time"] / 1000, "end": part["end_time"] / 1000}


def _usage(duration_ms: int) -> dict[str, Any]:
    return {"usage": {"type": "duration", "seconds": duration_ms / 1000}}


def _speaker(speaker_id: object) -> str:
    """0 is A, 25 is Z, 26 is AA. A sentence without a speaker is of the first one."""
    if speaker_id is None:
        return "A"
    if not (text := str(speaker_id)).isdecimal() or len(text) > 9:
        return text
    letters, rest = "", int(text) + 1
    while rest:
        rest, letter = divmod(rest - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return letters
