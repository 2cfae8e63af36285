"""Uses OpenAI's official client as its users do. Arguments: base URL, token, path of a recording."""

import sys
from typing import Any

import pytest
from openai import APIStatusError, BadRequestError, OpenAI, omit
from openai.types.audio import TranscriptionDiarized, TranscriptionVerbose


def main(base_url: str, token: str, recording: str) -> None:
    client = OpenAI(base_url=base_url, api_key=token)

    def create(model: str = "whisper-1", **fields: Any) -> Any:
        with open(recording, "rb") as file:  # noqa: PTH123 - as in OpenAI's own examples
            return client.audio.transcriptions.create(model=model, file=file, **fields)

    plain = create()
    assert plain.text
    assert plain.usage.seconds > 0
    assert create(response_format="text").strip()
    assert create(response_format="srt").startswith("1\n00:00:")
    assert create(response_format="vtt").startswith("WEBVTT")
    verbose = create(response_format="verbose_json", timestamp_granularities=["word", "segment"], language="zh")
    assert isinstance(verbose, TranscriptionVerbose)
    assert isinstance(verbose.duration, float)
    assert verbose.segments
    assert verbose.words
    diarized = create("gpt-4o-transcribe-diarize", response_format="diarized_json", chunking_strategy="auto")
    assert isinstance(diarized, TranscriptionDiarized)
    assert {each.speaker for each in diarized.segments} <= {"A", "B", "C"}
    streamed = list(create("gpt-4o-transcribe", stream=True))
    assert streamed[-1].type == "transcript.text.done"
    assert "".join(each.delta for each in streamed[:-1]) == streamed[-1].text
    with pytest.raises(BadRequestError) as refused:
        create("gpt-5")
    assert refused.value.param == "model"
    assert refused.value.request_id
    from_url: Any = {"file": omit, "model": "whisper-1"}
    text = client.audio.transcriptions.create(**from_url, extra_body={"url": "https://example.com/a.wav"}).text
    assert text
    failing = {"url": "https://example.com/a.wav?sandbox=fail:DECODE_ERROR"}
    with pytest.raises(APIStatusError) as failed:
        client.audio.transcriptions.create(**from_url, extra_body=failing)
    assert failed.value.code == "audio_unreadable"
    sys.stdout.write("done")


def retry(base_url: str, token: str, recording: str) -> None:
    """A time-out that is too short for the first try: the client repeats the request by itself."""
    client = OpenAI(base_url=base_url, api_key=token, timeout=2.0, max_retries=10)
    with open(recording, "rb") as file:  # noqa: PTH123 - as in OpenAI's own examples
        sys.stdout.write(client.audio.transcriptions.create(model="whisper-1", file=file).text)


if __name__ == "__main__":
    {"all": main, "retry": retry}[sys.argv[1]](*sys.argv[2:])
