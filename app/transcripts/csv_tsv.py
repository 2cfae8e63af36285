"""Words as CSV and sentences as TSV. Pure and streaming: one string per sentence, in the given order.

Spreadsheets run a cell that begins like a formula, and anybody may have spoken the text. So an apostrophe is put
before such a cell; single signs and signed numbers stay as they are. The JSON document has the text unchanged.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from app.transcripts.text import strip_controls

WORD_COLUMNS = ("channel_id", "speaker_id", "begin_time", "end_time", "text", "punctuation")
SENTENCE_COLUMNS = ("begin_time", "end_time", "channel_id", "speaker_id", "text", "emotion", "event")

# Excel treats the full-width signs of Chinese and Japanese like the ASCII signs.
_SIGNS = r"(?:[=@＝＠].|[+\-＋－](?![0-9]+(?:[.,][0-9]+)*[%％]?\Z).)"
# Characters without a width, which some spreadsheets drop in front of a formula.
_INVISIBLE = (
    r"[\xad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb]"
)
_FORMULA = re.compile(f"(?:{_INVISIBLE}| )*+{_SIGNS}")
# Where the decimal sign is a comma, Excel separates cells at semicolons. It then also reads `x;=1+1` as two cells.
_QUOTED = re.compile(r'[",;\t\r\n]|\A[ \ufeff]|[ ]\Z')


class SpokenSentence(NamedTuple):
    """A sentence with the channel that it was spoken on."""

    channel_id: int | None
    sentence: Mapping[str, Any]


def words_csv(spoken: Iterable[SpokenSentence]) -> Iterator[str]:
    """RFC 4180 with a header. Sentences without words have no rows, because the times of their words are unknown.

    Spaces around words are left out: some model families put them before a word, others after it.
    """
    yield ",".join(WORD_COLUMNS) + "\r\n"
    for channel_id, sentence in spoken:
        if words := sentence.get("words"):
            speaker = f"{_cell(channel_id)},{quoted(_cell(sentence.get('speaker_id')))}"
            yield "".join([_word_row(speaker, word) for word in words])


def sentences_tsv(spoken: Iterable[SpokenSentence]) -> Iterator[str]:
    """A header and one line per sentence. Tabs and line ends become spaces; commas separate emotions or events.

    A cell that begins with `"` is quoted as in CSV, because most readers take that mark for the begin of such a cell.
    """
    yield "\t".join(SENTENCE_COLUMNS) + "\n"
    for channel_id, sentence in spoken:
        cells = (
            _cell(sentence["begin_time"]),
            _cell(sentence["end_time"]),
            _cell(channel_id),
            *(_cell(sentence.get(name)) for name in SENTENCE_COLUMNS[3:]),
        )
        yield "\t".join([quoted(cell) if cell.startswith('"') else cell for cell in cells]) + "\n"


def _word_row(speaker: str, word: Mapping[str, Any]) -> str:
    text, mark = quoted(escaped(word["text"])), quoted(escaped(word.get("punctuation") or ""))
    return f"{speaker},{word.get('begin_time', '')},{word.get('end_time', '')},{text},{mark}\r\n"


def quoted(cell: str) -> str:
    """The cell as RFC 4180 writes it, with the quotes that other separators need too."""
    return '"' + cell.replace('"', '""') + '"' if _QUOTED.search(cell) else cell


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return escaped(",".join(str(item) for item in value))
    return escaped(str(value))


def escaped(text: str) -> str:
    """The text on one line, no formula, and without control characters: many readers end a cell at NUL."""
    text = " ".join(strip_controls(text).split())
    return f"'{text}" if _FORMULA.match(text) else text
