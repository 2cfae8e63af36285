"""The response formats, as OpenAI's official client parses them."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, get_args

import orjson
import pytest
from hypothesis import given

from app.identifiers import new_id
from app.openai_api.form import Granularity, ResponseFormat, TranscriptionRequest
from app.openai_api.formats import representation, stream_events
from app.transcripts.document_reader import StoredDocument
from tests.transcripts.documents import plausible_transcripts, sentence, spoken, transcript
from tests.transcripts.transcript_store import prepare

DURATION_MS = 4726
# The tests import `openai` by themselves: it takes 1.3 s of each worker that collects this file.


def document(*channels: dict[str, Any], **fields: Any) -> StoredDocument:
    raw = orjson.dumps({"file_url": "https://example.com/a.wav", "transcripts": [*channels], **fields})
    prepared = prepare(raw, new_id(), job_id=new_id())
    stored = prepared.document
    return StoredDocument(stored.index, lambda at, length: stored.gzip[at : at + length])


def render(
    opened: StoredDocument,
    response_format: ResponseFormat,
    granularities: Sequence[Granularity] = ("segment",),
    language: str | None = None,
) -> str:
    request = TranscriptionRequest(
        model="fun-asr",
        parameters={},
        url=None,
        language=language,
        response_format=response_format,
        granularities=frozenset(granularities),
        stream=False,
    )
    return "".join(representation(request, DURATION_MS).render(opened))


def events(opened: StoredDocument, *, diarized: bool = False) -> list[dict[str, Any]]:
    lines = "".join(stream_events(opened, diarized=diarized)).split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    assert all(line.startswith("data: ") and "\n" not in line for line in lines[:-1])
    return [orjson.loads(line.removeprefix("data: ")) for line in lines[:-2]]


HELLO = spoken((760, 1320, "Hello"), (1320, 2000, " World."), speaker_id=0)
NEXT = spoken((2100, 3000, "Next."), speaker_id=27)
TWO = transcript(HELLO, NEXT) | {"text": "Hello World. Next."}


@pytest.fixture
def two() -> StoredDocument:
    return document(TWO)


@pytest.fixture
def silent() -> StoredDocument:
    return document()


def test_json_has_the_text_and_its_usage(two: StoredDocument, silent: StoredDocument) -> None:
    usage = {"type": "duration", "seconds": 4.726}
    assert orjson.loads(render(two, "json")) == {"text": "Hello World. Next.", "usage": usage}
    assert orjson.loads(render(silent, "json"))["text"] == ""


def test_texts_are_plain(two: StoredDocument, silent: StoredDocument) -> None:
    assert render(two, "text") == "Hello World. Next."
    assert render(two, "srt").startswith("1\n00:00:00,760 --> 00:00:02,000\nHello World.\n\n2\n")
    assert render(two, "vtt").startswith("WEBVTT\n\n00:00:00.760 --> 00:00:02.000\nHello World.\n")
    assert (render(silent, "text"), render(silent, "srt")) == ("", "")
    assert render(silent, "vtt").strip() == "WEBVTT"


def test_verbose_json_is_complete_for_the_official_client(two: StoredDocument) -> None:
    from openai.types.audio import TranscriptionVerbose

    parsed = TranscriptionVerbose.model_validate_json(render(two, "verbose_json"), strict=True)
    assert (parsed.duration, parsed.language, parsed.words) == (4.726, "unknown", None)
    assert parsed.segments is not None
    assert [(each.id, each.start, each.end, each.text) for each in parsed.segments] == [
        (0, 0.76, 2.0, "Hello World."),
        (1, 2.1, 3.0, "Next."),
    ]
    # Clients drop segments with a high probability of silence, a low probability or a high compression.
    assert all((each.no_speech_prob, each.avg_logprob, each.compression_ratio) == (0, 0, 1) for each in parsed.segments)


@pytest.mark.parametrize("granularities", [("word",), ("word", "segment")])
def test_words_are_there_only_when_they_are_asked_for(
    two: StoredDocument, granularities: Sequence[Granularity]
) -> None:
    from openai.types.audio import TranscriptionVerbose

    parsed = TranscriptionVerbose.model_validate_json(render(two, "verbose_json", granularities), strict=True)
    assert parsed.words is not None
    assert [(each.word, each.start, each.end) for each in parsed.words] == [
        ("Hello", 0.76, 1.32),
        ("World.", 1.32, 2.0),
        ("Next.", 2.1, 3.0),
    ]
    assert (parsed.segments is not None) == ("segment" in granularities)


def test_words_of_a_model_without_words_are_an_empty_array() -> None:
    opened = document(transcript(sentence("Hello.", 0, 500)))
    assert orjson.loads(render(opened, "verbose_json", ("word",)))["words"] == []


def test_language_is_the_detected_one_or_the_requested_one(two: StoredDocument) -> None:
    detected = document(transcript(sentence("Hallo.", 0, 500, language="de")))
    assert orjson.loads(render(detected, "verbose_json", language="en"))["language"] == "de"
    assert orjson.loads(render(two, "verbose_json", language="en"))["language"] == "en"


def test_diarized_json_names_speakers_by_letters(two: StoredDocument, silent: StoredDocument) -> None:
    from openai.types.audio import TranscriptionDiarized

    parsed = TranscriptionDiarized.model_validate_json(render(two, "diarized_json"), strict=True)
    assert [(each.id, each.speaker, each.text) for each in parsed.segments] == [
        ("seg_0", "A", "Hello World."),
        ("seg_1", "AB", "Next."),
    ]
    assert TranscriptionDiarized.model_validate_json(render(silent, "diarized_json"), strict=True).segments == []
    alone = document(transcript(sentence("Hello.", 0, 500)))
    assert orjson.loads(render(alone, "diarized_json"))["segments"][0]["speaker"] == "A"


def test_deltas_give_the_text_sentence_by_sentence(two: StoredDocument) -> None:
    from openai.types.audio import TranscriptionTextDeltaEvent, TranscriptionTextDoneEvent

    sent = events(two)
    deltas = [TranscriptionTextDeltaEvent.model_validate(each, strict=True).delta for each in sent[:-1]]
    assert deltas == ["Hello World.", " Next."]
    assert TranscriptionTextDoneEvent.model_validate(sent[-1], strict=True).text == "".join(deltas)


def test_diarized_stream_has_each_segment_after_its_delta(two: StoredDocument) -> None:
    from openai.types.audio import TranscriptionTextSegmentEvent

    sent = events(two, diarized=True)
    assert [each["type"].rpartition(".")[2] for each in sent] == ["delta", "segment", "delta", "segment", "done"]
    for delta, segment in list(pairwise(sent))[:-1:2]:
        parsed = TranscriptionTextSegmentEvent.model_validate(segment, strict=True)
        assert (parsed.id, parsed.text) == (delta["segment_id"], delta["delta"].strip())


def test_text_without_sentences_is_one_delta(silent: StoredDocument) -> None:
    opened = document({"channel_id": 0, "text": "No times.", "sentences": []})
    assert [each.get("delta") for each in events(opened)] == ["No times.", None]
    assert [each["type"] for each in events(silent)] == ["transcript.text.done"]


@given(plausible_transcripts())
def test_deltas_of_any_transcript_give_its_text(channels: list[dict[str, Any]]) -> None:
    *deltas, done = events(document(*channels))
    assert "".join(each["delta"] for each in deltas) == done["text"]


@given(plausible_transcripts())
def test_every_format_of_any_transcript_is_valid(channels: list[dict[str, Any]]) -> None:
    opened = document(*channels)
    for response_format in get_args(ResponseFormat):
        rendered = render(opened, response_format, get_args(Granularity))
        assert response_format not in {"json", "verbose_json", "diarized_json"} or orjson.loads(rendered)
