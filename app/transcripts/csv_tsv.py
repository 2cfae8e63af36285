"""Words as CSV and sentences as TSV. Pure and streaming: a piece per sentence, in the order in which they are given.

People open these in spreadsheets, which run a cell that begins like a formula. What was said is anybody's, so an
apostrophe goes before such a cell; signs alone and signed numbers stay what they are. The JSON document has what
was said unchanged.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from app.transcripts.text import strip_controls

WORD_COLUMNS = ("channel_id", "speaker_id", "begin_time", "end_time", "text", "punctuation")
SENTENCE_COLUMNS = ("begin_time", "end_time", "channel_id", "speaker_id", "text", "emotion", "event")
# Excel takes UTF-8 without it for the code page of the machine.
BYTE_ORDER_MARK = "\ufeff"

# Excel takes the full-width signs of Chinese and Japanese for the others.
_FORMULA = re.compile(r"[=@＝＠].|[+\-＋－](?![0-9]+(?:[.,][0-9]+)*[%％]?\Z).")
_QUOTED = re.compile(r'[",\r\n]|\A[ \ufeff]|[ ]\Z')


class SpokenSentence(NamedTuple):
    """A sentence and whose it is."""

    channel_id: int | None
    sentence: Mapping[str, Any]


def words_csv(spoken: Iterable[SpokenSentence], *, bom: bool = False) -> Iterator[str]:
    """RFC 4180 with a header. Sentences whose model sent no words have no rows: their times would be invented.

    Blanks around words are left out, since families put them on different sides.
    """
    yield (BYTE_ORDER_MARK if bom else "") + ",".join(WORD_COLUMNS) + "\r\n"
    for channel_id, sentence in spoken:
        if words := sentence.get("words"):
            whose = f"{_shown(channel_id)},{_csv(_shown(sentence.get('speaker_id')))}"
            yield "".join([_word_row(whose, word) for word in words])


def sentences_tsv(spoken: Iterable[SpokenSentence], *, bom: bool = False) -> Iterator[str]:
    """A header and a line per sentence. Tabs and line ends are blanks; several emotions or events parted by commas."""
    yield (BYTE_ORDER_MARK if bom else "") + "\t".join(SENTENCE_COLUMNS) + "\n"
    for channel_id, sentence in spoken:
        cells = (
            _shown(sentence["begin_time"]),
            _shown(sentence["end_time"]),
            _shown(channel_id),
            *(_shown(sentence.get(name)) for name in SENTENCE_COLUMNS[3:]),
        )
        yield "\t".join(cells) + "\n"


def _word_row(whose: str, word: Mapping[str, Any]) -> str:
    text, mark = _csv(_tame(word["text"])), _csv(_tame(word.get("punctuation") or ""))
    return f"{whose},{word.get('begin_time', '')},{word.get('end_time', '')},{text},{mark}\r\n"


def _csv(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if _QUOTED.search(cell) else cell


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _tame(",".join(str(item) for item in value))
    return _tame(str(value))


def _tame(text: str) -> str:
    """On one line, without control characters, of which NUL ends a cell for many readers, and no formula."""
    text = " ".join(strip_controls(text).split())
    return f"'{text}" if _FORMULA.match(text) else text
