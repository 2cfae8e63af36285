"""What a client asks for: the parts of `q`, as terms for the index and as patterns that settle it. Pure."""

import re
from dataclasses import dataclass

from app.search.folding import LETTER, SEPARATOR, UNSPACED, fold
from app.search.terms import pair_term, prefix_term, run_terms, word_term

# From so many characters on a run may go over the end of a sentence, with its punctuation. Shorter ones would mostly
# find what nobody said: the last character of one sentence before the first of the next.
OVER_BORDER_FROM = 4
# One sign may stand for eighteen characters.
MAX_FOLDED = 400

_QUOTES = str.maketrans(dict.fromkeys("“”„＂「」", '"'))
_PART = re.compile(r'"([^"]*)"|([^\s"]+)')
_TOKEN = re.compile(f"(?P<run>{UNSPACED}+)|(?P<word>(?:(?!{UNSPACED}){LETTER})+)|(?P<gap>{SEPARATOR}+)")

# Possessive: separators are never what comes after them, so giving some back would only cost time.
_BLANKS = r"\s*+"
# Enough to pass most places by where no word begins or ends; `matching` knows the others. `re` takes a millisecond to
# compile a class of all letters, and a query may have a hundred words.
_ASCII_LETTER = "[0-9a-z]"


class NothingToFind(ValueError):
    """The query has neither letter nor digit nor character."""


class TooLong(ValueError):
    """With its signs written out the query has more than MAX_FOLDED characters."""


@dataclass(frozen=True, slots=True)
class Part:
    """`pattern` finds where it may be: whether a word begins or ends there has to be looked at, where one must.

    `over_borders`: the pattern is for a text with open borders.
    """

    pattern: re.Pattern[str]
    begins_word: bool
    ends_word: bool
    over_borders: bool


@dataclass(frozen=True, slots=True)
class Query:
    """`terms` are in every segment that has a hit, and in some others. A hit has all `parts`."""

    terms: list[int]
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


def parse(q: str) -> Query:
    """Some milliseconds at most, as all on the event loop. Raises NothingToFind and TooLong."""
    folded = fold(q.translate(_QUOTES)) if len(q) <= MAX_FOLDED else q
    if len(folded) > MAX_FOLDED:
        raise TooLong
    terms: set[int] = set()
    parts: dict[Part, None] = {}
    for match in _PART.finditer(folded):
        quoted = match[1] is not None
        tokens = _tokens(match[1] if quoted else match[2])
        if tokens:
            terms |= _terms(tokens, quoted=quoted)
            parts[_part(tokens, quoted=quoted)] = None
    if not parts:
        raise NothingToFind
    # Long ones first: they are rarer, and the first that is missing ends the matching.
    return Query(sorted(terms), sorted(parts, key=lambda part: len(part.pattern.pattern), reverse=True))


def _tokens(part: str) -> list[_Token]:
    tokens = [_Token(str(found.lastgroup), found[0]) for found in _TOKEN.finditer(part)]
    while tokens and tokens[0].kind == "gap":
        tokens.pop(0)
    while tokens and tokens[-1].kind == "gap":
        tokens.pop()
    return tokens


def _terms(tokens: list[_Token], *, quoted: bool) -> set[int]:
    terms: set[int] = set()
    for place, token in enumerate(tokens):
        if token.kind == "run":
            terms |= run_terms(token.text)
        elif token.kind == "word":
            whole = quoted or place < len(tokens) - 1
            terms.add(word_term(token.text) if whole else prefix_term(token.text))
    for first, between, second in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if between.kind == "gap" and first.kind == second.kind == "word":
            last = not quoted and second is tokens[-1]
            terms |= set() if last else {pair_term(first.text, second.text)}
    return terms


def _part(tokens: list[_Token], *, quoted: bool) -> Part:
    size = sum(len(token.text) for token in tokens if token.kind != "gap")
    begins_word, ends_word = tokens[0].kind == "word", tokens[-1].kind == "word" and quoted
    pattern = _pattern(tokens, quoted=quoted)
    if ends_word:
        pattern += f"(?!{_ASCII_LETTER})"
    return Part(re.compile(pattern), begins_word, ends_word, _BLANKS in pattern and size >= OVER_BORDER_FROM)


def _pattern(tokens: list[_Token], *, quoted: bool) -> str:
    """Of a word within it both ends are known: a gap or a run is beside it."""
    pattern = ""
    for place, token in enumerate(tokens):
        before = tokens[place - 1].kind if place else ""
        if token.kind == "gap":
            pattern += _gap(token.text, before, tokens[place + 1].kind, quoted=quoted)
            continue
        if before and before != "gap":
            pattern += _BLANKS
        if token.kind == "run":
            pattern += _BLANKS.join(map(re.escape, token.text))
        else:
            pattern += re.escape(token.text) if before else _first_word(token.text)
    return pattern


def _gap(text: str, before: str, after: str, *, quoted: bool) -> str:
    if not before == after == "word":
        return f"{SEPARATOR}*+"
    return f"{SEPARATOR}++" if quoted else re.escape(text)


def _first_word(word: str) -> str:
    """What is before it afterwards: a pattern that begins with letters is searched for fast."""
    text = re.escape(word)
    return f"{text}(?<!{_ASCII_LETTER}{text})"
