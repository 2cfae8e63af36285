"""Text normalised for matching: NFKC, case-folded, punctuation variants unified. Pure.

A text and its fold may differ in length; `origins` maps the fold back to the text.
"""

import re
import unicodedata
from itertools import accumulate

# Separate the sentences of a channel, and the channels. `clean` removes these control characters from texts.
# `re` counts them as white space.
BORDER, CHANNEL_BORDER = "\x1e", "\x1d"

# Found by any part: scripts without spaces between words, Korean (because of its endings), and pictures.
_CHARACTERS = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff"  # Thai, Lao, Tibetan, Burmese, Jamo, Khmer
    "\u2190-\u21ff\u2300-\u23ff\u2460-\u27bf\u2b00-\u2bff"  # arrows, symbols
    "\u3005-\u3007\u3021-\u3029\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u318f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\U0001f000-\U0001faff\U00020000-\U0003ffff"
)
# Marks that belong to the letter before them and that `\w` leaves out. Of Indic scripts the whole blocks except stops.
MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc"
    "\u06df-\u06e8\u06ea-\u06ed\u0900-\u0963\u0966-\u0df3"
)
# In a fold every separator beyond ASCII is this one. So all other characters in the ranges of UNSPACED are characters
# as above, or letters of scripts that lie between them.
_POINT = "·"
_SEPARATORS = "\x00-/:-@[-`{-\x7f" + _POINT
SEPARATOR, LETTER = f"[{_SEPARATORS}]", f"[^{_SEPARATORS}]"
UNSPACED = "[\u0e00-\u11ff\u1780-\u17ff\u2190-\U0003ffff]"
_ALL_SEPARATORS = "".join(character for code in range(0x80) if not (character := chr(code)).isalnum()) + _POINT
_OTHER_SEPARATOR = re.compile(f"[^\x00-\x7f\\w{MARKS}{_CHARACTERS}]")

# NFKC replaces full-width signs too, but takes 160 µs for 1,500 characters; if they are replaced before, it takes 2 µs.
_SIGNS = [
    ("，", ","), ("。", "."), ("？", "?"), ("！", "!"), ("：", ":"), ("；", ";"), ("（", "("), ("）", ")"),
    ("、", ","), ("\u3000", " "), ("\u2019", "'"), ("\u2018", "'"), ("\u02bc", "'"), ("\u2010", "-"),
    ("\u2011", "-"), ("\u2013", "-"), ("\u2014", "-"), ("\u2212", "-"), ("…", "."), ("_", " "),
]  # fmt: skip
_INVISIBLE = re.compile("[\u00ad\u034f\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff]")
# Decimal digits of other scripts. NFKC leaves them as they are. Of the characters from U+10000 on all are included, as
# in _SORTED: with the digits alone `re` took 110 µs for 300 characters, now 1 µs.
_DIGITS = "".join(character for code in range(0x80, 0x10000) if (character := chr(code)).isdecimal())
_MAYBE_DIGIT = re.compile(f"[{_DIGITS}\U00010000-\U0001ffff]")
# Marks that NFKC sorts, in time quadratic in their number: 0.8 s for 32,000. No letter has more than thirty (UAX #15,
# stream-safe text), so after thirty a character is inserted, which is removed afterwards. All characters from U+10000
# on are included, because `re` would check single ones one by one.
_SORTED = "\U00010000-\U0001ffff" + "".join(
    character
    for character in map(chr, range(0x300, 0x10000))
    if unicodedata.combining(unicodedata.normalize("NFKD", character)[0])
)
# The first mark stands alone: `re` searches for a class much faster than for a repeated class.
_STACK = re.compile(f"[{_SORTED}][{_SORTED}]{{29}}(?=[{_SORTED}])")
_STACK_BREAK = "\u034f"
# NFKC combines marks with the letter before them, so both are folded together.
_CLUSTER = re.compile(f"(?s).[{MARKS}\u3099\u309a\uff9e\uff9f]*")


def fold(text: str) -> str:
    if text.isascii():
        return text.replace("_", " ").lower()
    folded = unicodedata.normalize("NFKC", _prepared(text)).casefold()
    folded = _MAYBE_DIGIT.sub(_ascii_digit, folded)
    return _OTHER_SEPARATOR.sub(_POINT, _INVISIBLE.sub("", folded))


def _ascii_digit(found: re.Match[str]) -> str:
    return str(unicodedata.decimal(found[0], found[0]))


def open_borders(folded: str) -> str:
    """The fold with all separators next to a border turned into borders, so that a pattern passes them as spaces."""
    return BORDER.join(map(_open_ends, folded.split(BORDER)))


def clean(text: str) -> str:
    return text.replace(BORDER, " ").replace(CHANNEL_BORDER, " ").strip()


def origins(text: str) -> list[int] | None:
    """For each character of the fold, and for its end, the offset in `text`. None if it cannot be determined."""
    folded = fold(text)
    if len(folded) == len(text) and unicodedata.is_normalized("NFKC", _prepared(text)):
        return [*range(len(text) + 1)]
    letters = _CLUSTER.findall(text)
    folds = [fold(letter) for letter in letters]
    if "".join(folds) != folded:
        return None  # for example Hangul in separate jamo
    starts = accumulate((len(letter) for letter in letters), initial=0)
    return [start for piece, start in zip(folds, starts, strict=False) for _ in piece] + [len(text)]


def _open_ends(sentence: str) -> str:
    behind = sentence.lstrip(_ALL_SEPARATORS)
    inner = behind.rstrip(_ALL_SEPARATORS)
    return BORDER * (len(sentence) - len(behind)) + inner + BORDER * (len(behind) - len(inner))


def _prepared(text: str) -> str:
    """Replace the characters that make NFKC slow."""
    for sign, ascii_sign in _SIGNS:
        text = text.replace(sign, ascii_sign)
    return _STACK.sub(rf"\g<0>{_STACK_BREAK}", text)
