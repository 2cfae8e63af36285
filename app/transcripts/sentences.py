"""Sentences of a stored document as captions read them. Keys that captions do not need are skipped without a copy."""

from typing import Any, NotRequired, TypedDict

import msgspec


class Word(msgspec.Struct, gc=False):
    """A word. Times in milliseconds. None: upstream did not send the value."""

    text: str
    punctuation: str | None = None
    begin_time: int | None = None
    end_time: int | None = None


class Sentence(TypedDict):
    """A sentence and its words. Times in milliseconds."""

    begin_time: int
    end_time: int
    text: str
    speaker_id: NotRequired[Any]
    words: NotRequired[list[Word]]


read_sentences = msgspec.json.Decoder(list[Sentence]).decode
