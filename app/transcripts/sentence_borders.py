"""Moves marks over the borders of sentences to the sentence that they belong to. Pure and streaming.

Upstream cuts sentences at full stops, also within quotations: `他问：“谁？` and `”大家` are two sentences. The closing
quotation mark belongs to the end of the first one.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from unicodedata import category

Sentence = Mapping[str, Any]

# Arabic, Devanagari, Armenian, Ethiopic, Khmer, Burmese and Tibetan stops, and the narrow forms of Japanese ones.
STOPS_OF_OTHER_SCRIPTS = "،؛؟۔।॥։፣፤፥።፧។៕၊။།༎｡､｣"
_OPENING = "“‘„‚「『（《〈【〔［｛〖〘〚｟([{¿¡"
# These open only after a space.
_OPENING_AFTER_SPACE = "\"'«‹"
_MAY_OPEN = _OPENING + _OPENING_AFTER_SPACE
_CLOSING = r"」』）》〉】〕］｝〗〙〛｠，。、；：？！)\]}" + STOPS_OF_OTHER_SCRIPTS
# `"`, `»` and ASCII stops close only before a space or another closing mark: `"Yes`, `»Ja«` and `.5` begin with them.
# `’` and `”` before a Latin letter are an apostrophe (’tis), or open a Swedish quotation.
_LEADING = re.compile(
    rf"\s*(?:[{_CLOSING}]|[’”](?![A-Za-z\u00c0-\u024f])|(?:[\"'»›,;:!?]|\.(?!\.)|…+)(?=[\s’”{_CLOSING}]|$))+\s*"
)
# `„Ja“`: the mark that opens an English quotation closes a German one.
_GERMAN_OPENING = re.compile("[„‚]")
_GERMAN_LEADING = re.compile(rf"\s*[“‘]{_LEADING.pattern}|\s*[“‘]\s+")
_WORD = re.compile(r"[^\W_]")
_WAVES = "~～"


def settle_marks(sentences: Iterable[Sentence]) -> Iterator[Sentence]:
    """The sentences of one channel. None has marks alone; some have no text.

    Closing marks at the begin of a sentence go to the sentence before, opening marks at the end to the sentence after,
    if both have the same speaker. A sentence of marks alone joins its neighbour, or loses its text if it has none.
    """
    before: Sentence | None = None
    marks: Sentence | None = None  # a sentence of marks alone, after which no other of its speaker came yet
    for sentence in sentences:
        if not has_words(sentence["text"]):
            if before is not None and _same_speaker(before, sentence):
                before = _with_text(before, before["text"].rstrip() + sentence["text"].strip())
            elif marks is not None and _same_speaker(marks, sentence):
                marks = _with_text(marks, marks["text"].strip() + sentence["text"].strip())
            else:
                yield from _left_over(before, marks)
                before, marks = None, sentence
        else:
            settled = sentence
            if marks is not None and _same_speaker(marks, sentence):
                settled, marks = _with_text(sentence, marks["text"].strip() + sentence["text"]), None
            elif before is not None and _same_speaker(before, sentence):
                before, settled = _settle(before, sentence)
            yield from _left_over(before, marks)
            before, marks = settled, None
    yield from _left_over(before, marks)


def _left_over(before: Sentence | None, marks: Sentence | None) -> Iterator[Sentence]:
    """At most one of both is there. Marks without a neighbour become a sentence without text."""
    if before is not None:
        yield before
    if marks is not None:
        yield _with_text(marks, "")


def has_words(text: str) -> bool:
    """Whether a text is more than marks and blanks: it has a letter, a digit, or a sign such as `♪` or an emoji."""
    if _WORD.search(text):
        return True
    return any(category(character) in _SIGNS and character not in _WAVES for character in text)


# Symbols, and private or unassigned characters.
_SIGNS = {"Sc", "Sk", "Sm", "So", "Co", "Cn"}


def _settle(before: Sentence, sentence: Sentence) -> tuple[Sentence, Sentence]:
    said, text = before["text"], sentence["text"]
    if text[0].isalnum() and not (said[-1] in _MAY_OPEN or said[-1].isspace()):  # as between nearly all sentences
        return before, sentence
    # Without a regular expression, which would take quadratic time for many opening marks.
    is_german_open = max(said.rfind("„"), said.rfind("‚")) > max(said.rfind("“"), said.rfind("‘"))
    leading = _GERMAN_LEADING if is_german_open else _LEADING
    if closing := leading.match(text) or _LEADING.match(text):
        said, text = said.rstrip() + closing[0].rstrip(), text[closing.end() :]
    if (start := _opening_start(said)) < len(said):
        said, text = said[:start], said[start:].strip() + text
    if text == sentence["text"] and said == before["text"]:
        return before, sentence
    return _with_text(before, said), _with_text(sentence, text)


def _opening_start(text: str) -> int:
    """Where the opening marks at the end of a text begin. The length of the text if there are none."""
    stop = len(text.rstrip())
    start = stop
    while start and (_opens(text, start - 1) or (start < stop and text[start - 1].isspace())):
        start -= 1
    if start == stop or (text[stop - 1] in "“‘" and _GERMAN_OPENING.search(text)):
        return len(text)
    return start


def _opens(text: str, at: int) -> bool:
    mark = text[at]
    return mark in _OPENING or (mark in _OPENING_AFTER_SPACE and at > 0 and text[at - 1].isspace())


def _same_speaker(left: Sentence, right: Sentence) -> bool:
    return bool(left.get("speaker_id") == right.get("speaker_id"))


def _with_text(sentence: Sentence, text: str) -> Sentence:
    return {**sentence, "text": text}
