"""Result documents in the format of each model family."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from app.sandbox.recordings import recorded_result
from app.sandbox.speech import Sentence, Word, default_duration_ms, duration_of_words_ms, speech
from app.sandbox.tasks import File, Task

JSONObject = dict[str, Any]

_EMOTIONS = ("neutral", "happy", "angry", "sad")


def audio_duration_ms(family: str, url: str, *, audio_s: float | None, words: int | None) -> int:
    """The duration that the sandbox reports for the audio of a URL."""
    if audio_s is not None:
        return round(audio_s * 1000)
    if words is not None:
        return duration_of_words_ms(words)
    recording = recorded_result(family, url)
    if recording is not None:
        return int(recording["properties"]["original_duration_in_milliseconds"])
    return default_duration_ms(url)


def result_document(task: Task, file: File) -> JSONObject:
    family = str(task.model.family)
    recording = recorded_result(family, file.echo_url)
    if recording is not None and file.behaviour.audio_s is None and file.behaviour.words is None:
        return _with_request(recording, task)
    if family == "qwen3-asr":
        return _qwen3_document(task, file)
    transcripts = [_transcript(task, file, channel_id) for channel_id in task.channels]
    return {"file_url": file.echo_url, "properties": _properties(task, file), "transcripts": transcripts}


def _with_request(recording: JSONObject, task: Task) -> JSONObject:
    """The recording for the channels of the task. It has one channel and one speaker, which are repeated."""
    (transcript,) = recording["transcripts"]
    if task.parameters.get("diarization_enabled"):
        transcript["sentences"] = [sentence | {"speaker_id": 0} for sentence in transcript["sentences"]]
    recording["transcripts"] = [transcript | {"channel_id": channel_id} for channel_id in task.channels]
    recording["properties"]["channels"] = task.channels
    return recording


def _properties(task: Task, file: File) -> JSONObject:
    return {
        "audio_format": "pcm_s16le",
        "channels": task.channels,
        "original_sampling_rate": 8000 if "-8k-" in task.model.id else 16000,
        "original_duration_in_milliseconds": file.duration_ms,
    }


def _transcript(task: Task, file: File, channel_id: int) -> JSONObject:
    spoken = _spoken(task, file, channel_id)
    if task.model.family == "sensevoice":
        sentences = [_tagged_sentence(index, sentence) for index, sentence in enumerate(spoken)]
    else:
        words_of = paraformer_words if task.model.family == "paraformer" else fun_asr_words
        sentences = [_sentence(task, index, sentence, words_of) for index, sentence in enumerate(spoken)]
    return {
        "channel_id": channel_id,
        "content_duration_in_milliseconds": sum(one.end_time - one.begin_time for one in spoken),
        "text": "".join(sentence["text"] for sentence in sentences),
        "sentences": sentences,
    }


def _spoken(task: Task, file: File, channel_id: int) -> list[Sentence]:
    hints = [*(task.parameters.get("language_hints") or []), task.parameters.get("language"), "zh"]
    language = next(hint for hint in hints if hint)
    seed_text = f"{file.url}#{channel_id}"
    return speech(seed_text, file.duration_ms, language=str(language), words=file.behaviour.words)


def _sentence(
    task: Task, index: int, sentence: Sentence, words_of: Callable[[Sequence[Word]], list[JSONObject]]
) -> JSONObject:
    words = words_of(sentence.words)
    shape = {
        "begin_time": sentence.begin_time,
        "end_time": sentence.end_time,
        "text": _joined(words),
        "sentence_id": index + 1,
    }
    if task.parameters.get("diarization_enabled"):
        shape["speaker_id"] = index % int(task.parameters.get("speaker_count") or 2)
    return shape | {"words": words}


def fun_asr_words(words: Sequence[Word]) -> list[JSONObject]:
    """Chinese in words, a space before Latin words, full-width punctuation."""
    return [
        _word(word.begin_time, word.end_time, f" {word.text}" if index and word.is_latin else word.text, word.mark)
        for index, word in enumerate(words)
    ]


def paraformer_words(words: Sequence[Word]) -> list[JSONObject]:
    """Chinese in characters, a space after Latin words, half-width punctuation after Latin words."""
    shaped: list[JSONObject] = []
    for word in words:
        if word.is_latin:
            mark = {"，": ", ", "。": ".", "？": "?"}.get(word.mark, "")
            shaped.append(_word(word.begin_time, word.end_time, word.text if mark else f"{word.text} ", mark))
        else:
            shaped.extend(_characters(word))
    return shaped


def _characters(word: Word) -> Iterable[JSONObject]:
    span, count = word.end_time - word.begin_time, len(word.text)
    for index, character in enumerate(word.text):
        begin_time = word.begin_time + span * index // count
        end_time = word.begin_time + span * (index + 1) // count
        yield _word(begin_time, end_time, character, word.mark if index == count - 1 else "")


def _word(begin_time: int, end_time: int, text: str, punctuation: str) -> JSONObject:
    return {"begin_time": begin_time, "end_time": end_time, "text": text, "punctuation": punctuation}


def _joined(words: Iterable[JSONObject]) -> str:
    return "".join(word["text"] + word["punctuation"] for word in words)


def _tagged_sentence(index: int, sentence: Sentence) -> JSONObject:
    text = f"<|Speech|> {_joined(fun_asr_words(sentence.words))} <|/Speech|>"
    if index % 2 == 0:
        text += f" <|{_EMOTIONS[index // 2 % 4].upper()}|>"
    return {"begin_time": sentence.begin_time, "end_time": sentence.end_time, "text": text}


def _qwen3_document(task: Task, file: File) -> JSONObject:
    suffix = PurePosixPath(urlsplit(file.echo_url).path).suffix.lstrip(".")
    transcripts = []
    for channel_id in task.channels:
        spoken = _spoken(task, file, channel_id)
        sentences = [_qwen3_sentence(task, index, sentence) for index, sentence in enumerate(spoken)]
        text = "".join(sentence["text"] for sentence in sentences)
        transcripts.append({"channel_id": channel_id, "text": text, "sentences": sentences})
    audio_info = {"format": suffix or "wav", "sample_rate": 16000}
    return {"file_url": file.echo_url, "audio_info": audio_info, "transcripts": transcripts}


def _qwen3_sentence(task: Task, index: int, sentence: Sentence) -> JSONObject:
    words = [shaped for word in sentence.words for shaped in _qwen3_words(word)]
    shape = {
        "sentence_id": index,
        "begin_time": sentence.begin_time,
        "end_time": sentence.end_time,
        "language": "en" if all(word.is_latin for word in sentence.words) else "zh",
        "emotion": _EMOTIONS[index % 4],
        "text": _joined(fun_asr_words(sentence.words)),
    }
    return shape | {"words": words} if task.parameters.get("enable_words") else shape


def _qwen3_words(word: Word) -> Iterable[JSONObject]:
    if word.is_latin:
        return fun_asr_words([word])
    return _characters(word)
