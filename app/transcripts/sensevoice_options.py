"""The options of the vendor's function for SenseVoice's results, applied to a stored document. Pure.

Source: `parse_sensevoice_result` in the vendor's documentation. A stored document already has the tags taken out of its
text, so what is not kept is left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from app.catalogue import MODELS, Family
from app.errors import Fault, InvalidRequest
from app.transcripts.document_reader import StoredDocument


@dataclass(frozen=True, slots=True)
class SenseVoiceOptions:
    """None: not given, which means true."""

    keep_trans: bool | None = None
    keep_emotions: bool | None = None
    keep_events: bool | None = None

    @property
    def given(self) -> list[str]:
        """The names of the options that the request has."""
        options = {
            "keep_trans": self.keep_trans,
            "keep_emotions": self.keep_emotions,
            "keep_events": self.keep_events,
        }
        return [name for name, value in options.items() if value is not None]

    def require_model(self, model: str) -> None:
        """Raises InvalidRequest if an option is given for a model of another family."""
        found = MODELS.get(model)
        if not self.given or (found is not None and found.family is Family.SENSEVOICE):
            return
        detail = f"is for transcripts of SenseVoice only; this one is of {model}"
        faults = [Fault(f"/query/{name}", detail) for name in self.given]
        raise InvalidRequest(f"{faults[0].pointer} {detail}.", faults=faults)

    def reduce(self, sentence: dict[str, Any]) -> dict[str, Any] | None:
        """The sentence without what is not kept, or None if nothing of it is left."""
        for key, kept in (("text", self.keep_trans), ("emotion", self.keep_emotions), ("event", self.keep_events)):
            if kept is False:
                sentence.pop(key, None)
        return sentence if sentence.keys() & {"text", "emotion", "event"} else None


def render(document: StoredDocument, options: SenseVoiceOptions) -> Iterator[str]:
    """The JSON of the document, in pieces, with its sentences in their order."""
    head = {key: value for key, value in document.head().items() if key != "transcripts"}
    yield _opened(_reduced(head, options), "transcripts")
    for number in range(len(document.channel_ids)):
        fields = {key: value for key, value in document.channel_fields(number).items() if key != "sentences"}
        yield ("," if number else "") + _opened(_reduced(fields, options), "sentences")
        separator = ""
        for sentence in document.channel_sentences(number):
            if reduced := options.reduce(sentence):
                yield separator + orjson.dumps(reduced).decode()
                separator = ","
        yield "]}"
    yield "]}"


def _reduced(fields: dict[str, Any], options: SenseVoiceOptions) -> dict[str, Any]:
    if options.keep_trans is False:
        fields.pop("text", None)
    return fields


def _opened(fields: dict[str, Any], name: str) -> str:
    """A JSON object up to the beginning of its last member, the array `name`."""
    body = orjson.dumps(fields)[:-1].decode()
    return f'{body}{"," if fields else ""}"{name}":['
