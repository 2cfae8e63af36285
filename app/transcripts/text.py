"""The text of a transcript without times. Pure: works on the `transcripts` of a normalised document."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from typing import Any
from unicodedata import bidirectional

from app.transcripts.line_breaking import width
from app.transcripts.sentence_borders import STOPS_OF_OTHER_SCRIPTS, settle_marks

# Players and editors stop at NUL and show other control characters as boxes, or not at all. Control characters that
# act as line ends become a space.
_CONTROLS = re.compile("\r(?=\n)|[\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]|([\x0b-\x0d\x1c-\x1f\x85])")
_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")
# No-break spaces join words: they stay as they are.
_NO_BREAK = re.compile("[\xa0\u2007\u202f]")
_BLANKS = re.compile(r"[^\S\xa0\u2007\u202f]+")
_DOUBLED_BLANKS = re.compile(r"[^\S\n\xa0\u2007\u202f]{2,}")
_LETTER = re.compile(r"[^\W_]")
# Characters around the border of two texts that are searched for a letter.
BORDER_CHARACTERS = 32
# 31 years in milliseconds. A larger time is an error, and arithmetic on it could overflow a bigint.
MAX_TIME_MS = 10**12
_NO_SPACE_BEFORE = ",.;:!?)]}%”」』）》〉】，。、；：？！" + STOPS_OF_OTHER_SCRIPTS
_NO_SPACE_AFTER = "([{“‘„‚「『（《〈【¿¡"
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]")
_RIGHT_TO_LEFT_MARK = "\u200f"


class TimeOrdered:
    """Sentences that are in order of time already. They are read during iteration, not all at once."""

    def __init__(self, sentences: Iterable[Mapping[str, Any]]) -> None:
        self._sentences = sentences

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._sentences)


def strip_controls(text: str) -> str:
    """The text without control characters except tabs and newlines. The JSON document is not stripped."""
    return text if text.isprintable() else _CONTROLS.sub(lambda found: " " if found[1] else "", text)


def one_line(text: str) -> str:
    """The text on one line: without control characters, with single spaces between words, and none at its ends."""
    if text.isprintable():  # then the space is its only blank
        return " ".join(text.split()) if "  " in text else text.strip()
    text = strip_controls(text)
    return _BLANKS.sub(" ", text).strip() if _NO_BREAK.search(text) else " ".join(text.split())


def tidy_lines(text: str) -> str:
    """The text with its line ends, but without control characters, doubled blanks, and blanks at the ends of lines."""
    tidied = _DOUBLED_BLANKS.sub(" ", strip_controls(text))
    return "\n".join(line.strip() for line in tidied.split("\n")).strip() if "\n" in tidied else tidied.strip()


def sentence_times(sentence: Mapping[str, Any]) -> tuple[int, int]:
    """Begin and end: the least of the sentence's and the first word's begin, and the most of the ends. Milliseconds.

    Upstream's sentences may begin after their first word or end before their last one. Documents are stored with these
    times, so all forms of a transcript agree.
    """
    begin, end = sentence["begin_time"], sentence["end_time"]
    words = sentence.get("words") or ()
    spoken = spoken_times(
        sentence, [word.get("begin_time") for word in words], [word.get("end_time") for word in words]
    )
    return (min(begin, spoken[0]), max(end, spoken[1])) if spoken else (begin, end)


def spoken_times(
    sentence: Mapping[str, Any], begins: Sequence[int | None], ends: Sequence[int | None]
) -> tuple[int, int] | None:
    """The begin of the first word and the end of the last one. None if the words do not say when they were spoken.

    Those are words that all begin at once, or that are wholly before or after their sentence.
    """
    if not begins:
        return None
    first, last = begins[0], ends[-1]
    if first is None or last is None:
        first = next((begin for begin in begins if begin is not None), None)
        last = next((end for end in reversed(ends) if end is not None), None)
        if first is None or last is None:
            return None
    if len(begins) > 1 and begins[-1] == first and len(set(begins)) == 1:
        return None
    begin, end = sentence["begin_time"], sentence["end_time"]
    if last < begin or (first > begin and first > end):
        return None
    return first, last


def stated_duration(properties: dict[str, Any]) -> int | None:
    """The duration of the audio in milliseconds by the document's `properties`. None if it is missing or no number."""
    stated = properties.get("original_duration_in_milliseconds")
    if isinstance(stated, int | float) and stated is not True and 0 < stated <= MAX_TIME_MS:
        return int(stated)
    return None


def text(
    transcripts: Sequence[Mapping[str, Any]], *, channel_id: int | None = None, speakers: bool = False
) -> Iterator[str]:
    """The text of one channel or of all, one line per channel, in pieces. A channel without text has no line.

    With `speakers`: the sentences of all channels in order of time, one line per speaker change: `Speaker 0: …`.
    """
    chosen = select_channel(transcripts, channel_id)
    if speakers:
        yield from _speaker_lines(chosen)
        return
    separator = ""
    for transcript in chosen:
        if words := tidy_lines(transcript["text"]):
            yield separator + words
            separator = "\n"


def select_channel(transcripts: Sequence[Mapping[str, Any]], channel_id: int | None) -> list[Mapping[str, Any]]:
    """The transcripts of one channel, or all of them with None. An unknown channel has no transcripts."""
    return [
        transcript for transcript in transcripts if channel_id is None or transcript.get("channel_id") == channel_id
    ]


def by_time(transcript: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """The sentences by begin. Sentences that begin together keep the upstream's order."""
    sentences = transcript["sentences"]
    return sentences if isinstance(sentences, TimeOrdered) else sorted(sentences, key=_begin)


def join(texts: Iterable[str]) -> str:
    """Sentences as one text, with spaces only between scripts that use spaces; so none in Chinese."""
    joined: list[str] = []
    for part in texts:
        if joined and needs_space(joined[-1], part):
            joined.append(" ")
        if part:
            joined.append(part)
    return "".join(joined)


def needs_space(left: str, right: str) -> bool:
    """Whether a space belongs between two texts: between `Hi.` and `You`, but not between `好。` and `你`.

    The nearest letters decide, because marks such as `——` and `“` are the same in scripts with and without spaces.
    """
    if not left or not right or left[-1].isspace() or right[0].isspace():
        return False
    if right[0] in _NO_SPACE_BEFORE or left[-1] in _NO_SPACE_AFTER:
        return False
    return _is_spaced(_last_letter(left)) and _is_spaced(_first_letter(right))


def _last_letter(text: str) -> str:
    return _first_letter(text[: -BORDER_CHARACTERS - 1 : -1])


def _first_letter(text: str) -> str:
    found = _LETTER.search(text, 0, BORDER_CHARACTERS)
    return found[0] if found else text[0]


def _is_spaced(character: str) -> bool:
    """Whether the character's script puts spaces between words. Of the wide scripts only Hangul does."""
    return width(character) < 2 or _HANGUL.match(character) is not None


def labelled(label: str | None, text: str) -> str:
    """`Speaker 0: …`. A text that runs from right to left begins with U+200F, so that the label does not turn it."""
    if not label:
        return text
    mark = _RIGHT_TO_LEFT_MARK if not text.isascii() and _runs_right_to_left(text) else ""
    return f"{mark}{label}: {text}"


def _runs_right_to_left(text: str) -> bool:
    """Whether the first letter of the text has a direction from right to left."""
    if not _RIGHT_TO_LEFT.search(text):
        return False
    directions = map(bidirectional, text)
    return next((direction for direction in directions if direction in {"L", "R", "AL"}), "L") != "L"


def speaker_label(transcript: Mapping[str, Any], sentence: Mapping[str, Any], *, channels: bool) -> str | None:
    """The speaker by the upstream's number, as in `speaker_id`: `Speaker 0`. None if it is unknown.

    With several `channels` the channel comes first (`Channel 1`, `Channel 1, Speaker 0`): upstream counts speakers
    per channel, and in a telephone call each channel is one person.
    """
    names = [f"Channel {transcript['channel_id']}"] if channels and "channel_id" in transcript else []
    speaker = sentence.get("speaker_id")
    if speaker is not None:
        name = str(speaker)
        if not name.isalnum():  # upstream sends numbers
            name = " ".join(strip_controls(name).split())
        if name:
            names.append(f"Speaker {name}")
    return ", ".join(names) or None


def _speaker_lines(transcripts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    channels = [_labelled_texts(transcript, several=len(transcripts) > 1) for transcript in transcripts]
    speaking: str | None = ""  # differs from every label
    last, separator = "", ""
    for _, name, words in merge(*channels, key=lambda entry: entry[0]):
        if name != speaking:
            speaking, last = name, ""
        if not words:
            continue
        if last:
            yield " " + words if needs_space(last, words) else words
        else:
            yield separator + labelled(name, words)
        last, separator = words, "\n"


def _labelled_texts(transcript: Mapping[str, Any], *, several: bool) -> Iterator[tuple[int, str | None, str]]:
    for sentence in settle_marks(by_time(transcript)):
        label = speaker_label(transcript, sentence, channels=several)
        yield _begin(sentence), label, tidy_lines(sentence["text"])


def _begin(sentence: Mapping[str, Any]) -> int:
    begin: int = sentence["begin_time"]
    return begin
