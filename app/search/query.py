"""What a client asks for: the parts of `q`, as terms for the index and as patterns that settle it. Pure."""

import re
from dataclasses import dataclass

from app.search.folding import BORDER, LETTER, SEPARATOR, UNSPACED, UNSPACED_IN_QUERY, fold
from app.search.terms import pair_term, prefix_term, run_terms, word_term

# From so many characters on a run may go over the end of a sentence, with its punctuation. Shorter ones would mostly
# find what nobody said: the last character of one sentence before the first of the next.
OVER_BORDER_FROM = 4

_QUOTES = str.maketrans(dict.fromkeys("“”„＂「」", '"'))
_PART = re.compile(r'"([^"]*)"|([^\s"]+)')
_TOKEN = re.compile(f"(?P<run>{UNSPACED}+)|(?P<word>(?:(?!{UNSPACED}){LETTER})+)|(?P<gap>{SEPARATOR}+)")

_BEFORE_BORDER = f"(?:(?!{BORDER}){SEPARATOR})"
# Possessive: separators are never what comes after them, so giving some back would only cost time.
_BLANKS = r"\s*+"
_BLANKS_OR_BORDER = f"(?>{_BEFORE_BORDER}*+{BORDER}{SEPARATOR}*+|{_BLANKS})"


class NothingToFind(ValueError):
    """The query has neither letter nor digit nor character."""


@dataclass(frozen=True, slots=True)
class Query:
    """`terms` are in every segment that has a hit, and in some others. A hit matches all `patterns`."""

    terms: list[int]
    patterns: list[re.Pattern[str]]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


def parse(q: str) -> Query:
    """Raises NothingToFind."""
    terms: set[int] = set()
    patterns: dict[str, None] = {}
    for match in _PART.finditer(fold(q.translate(_QUOTES))):
        quoted = match[1] is not None
        tokens = _tokens(match[1] if quoted else match[2])
        if tokens:
            terms |= _terms(tokens, quoted=quoted)
            patterns[_pattern(tokens, quoted=quoted)] = None
    if not patterns:
        raise NothingToFind
    # Long ones first: they are rarer, and the first that is missing ends the matching.
    return Query(sorted(terms), [re.compile(pattern) for pattern in sorted(patterns, key=len, reverse=True)])


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


def _pattern(tokens: list[_Token], *, quoted: bool) -> str:
    size = sum(len(token.text) for token in tokens if token.kind != "gap")
    touching = _BLANKS_OR_BORDER if size >= OVER_BORDER_FROM else _BLANKS
    pattern = ""
    for place, token in enumerate(tokens):
        before = tokens[place - 1].kind if place else ""
        if token.kind == "gap":
            pattern += _gap(token.text, before, tokens[place + 1].kind, quoted=quoted)
            continue
        if before and before != "gap":
            pattern += touching
        if token.kind == "run":
            pattern += touching.join(map(re.escape, token.text))
        else:
            whole = quoted or place < len(tokens) - 1
            pattern += _word(token.text, whole=whole)
    return pattern


def _gap(text: str, before: str, after: str, *, quoted: bool) -> str:
    if not before == after == "word":
        return f"{SEPARATOR}*+"
    return f"{SEPARATOR}++" if quoted else re.escape(text)


def _word(word: str, *, whole: bool) -> str:
    """The word first and what is before it afterwards: a pattern that begins with letters is searched for fast."""
    text = re.escape(word)
    end = f"(?:(?!{LETTER})|(?={UNSPACED_IN_QUERY}))" if whole else ""
    return f"{text}(?:(?<!{LETTER}{text})|(?<={UNSPACED_IN_QUERY}{text})){end}"
