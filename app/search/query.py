"""Parses `q` into terms for the index, and into patterns that decide whether a sentence matches. Pure."""

import re
from dataclasses import dataclass

from app.search.folding import LETTER, SEPARATOR, UNSPACED, fold
from app.search.terms import pair_term, prefix_term, run_terms, word_term

# Parts of at least this many characters may continue over the end of a sentence and its punctuation. Shorter ones would
# mostly match by accident: the last character of one sentence before the first of the next.
MIN_OVER_BORDER = 4
# Maximum length of a query after folding. One sign may stand for eighteen characters.
MAX_FOLDED = 400

_QUOTES = str.maketrans(dict.fromkeys("“”„＂「」", '"'))
# A phrase has its marks at the begin and the end of a part. Other marks are punctuation, as in text that was copied.
_PART = re.compile(r'(?<!\S)"([^"]*)"(?!\S)|(\S+)')
_TOKEN = re.compile(f"(?P<run>{UNSPACED}+)|(?P<word>(?:(?!{UNSPACED}){LETTER})+)|(?P<gap>{SEPARATOR}+)")

# Possessive: the pattern never continues with a separator, so backtracking would only cost time.
_BLANKS = r"\s*+"
# Rules out most places where no word begins or ends; `matching` checks the others. A class of all letters would take
# `re` a millisecond to compile, and a query may have a hundred words.
_ASCII_LETTER = "[0-9a-z]"


class NothingToFind(ValueError):
    """The query has no letter, digit or character of any script."""


class TooLong(ValueError):
    """The folded query has more than MAX_FOLDED characters."""


@dataclass(frozen=True, slots=True)
class Part:
    """`pattern` finds candidates. With `begins_word` or `ends_word` a word must begin or end there.

    `over_borders`: the pattern is for a text after `open_borders`.
    """

    pattern: re.Pattern[str]
    begins_word: bool
    ends_word: bool
    over_borders: bool


@dataclass(frozen=True, slots=True)
class Query:
    """`terms`: contained in every matching segment, and in some others. `parts`: a sentence must contain all."""

    terms: list[int]
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


def parse(q: str) -> Query:
    """Takes a few milliseconds at most, so the event loop can call it. Raises NothingToFind and TooLong."""
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
    # Long parts first: they are rarer, and matching ends at the first missing part.
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
    return Part(re.compile(pattern), begins_word, ends_word, _BLANKS in pattern and size >= MIN_OVER_BORDER)


def _pattern(tokens: list[_Token], *, quoted: bool) -> str:
    """Words inside the pattern need no check of their ends: a gap or a run is next to them."""
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
    """The character before the word is checked after it: `re` searches fast for patterns that begin with letters."""
    text = re.escape(word)
    return f"{text}(?<!{_ASCII_LETTER}{text})"
