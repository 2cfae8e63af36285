"""Aligns upstream's words with the text of their sentence where the two differ. Pure, in linear time.

Upstream rewrites the text after it has timed the words: it adds marks, writes figures as digits, leaves out fillers and
masks words. Words that are in the text as well keep their times; the text between them shares the time between them.
"""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from app.search.folding import BORDER, LETTER, UNSPACED, fold, origins

# A token is a character of a script without spaces, or a run of letters of another script. The second kind of token
# separates words.
_TOKEN = re.compile(f"{UNSPACED}|(?:(?!{UNSPACED}){LETTER})+|{BORDER}")
_OPENING = " “‘「『（《〈【〔［｛〖〘〚｟([{«‹¿¡$￥¥£€#@"
# Runs of this many tokens that occur once in both sequences belong together. Shorter runs are compared between longer
# ones, where fewer tokens are left. The last level is repeated for what has become unique.
_RUN_LENGTHS = (6, 3, 2, 1, 1, 1)
# Ranges in which all items are repeated are compared item by item, at most so many at once.
_CHUNK_ITEMS = 64
# A mark that upstream timed as a word belongs to a neighbour that is nearer than this.
MARK_GAP_MS = 200
_WORD = re.compile(r"[^\W_]|[\u2190-\u2bff\U0001f000-\U0001faff]")


class TimedWord(NamedTuple):
    """A word with its times in milliseconds. Sequences of words are in order of time."""

    text: str
    begin: int
    end: int


class Piece(NamedTuple):
    """A piece of the text with its times. `stop`: characters before its end, without spaces."""

    stop: int
    begin: int
    end: int


class _Token(NamedTuple):
    """A token of the text with its place."""

    start: int
    stop: int


class _Part(NamedTuple):
    """Tokens `first` to before `stop` of the text, and their times."""

    first: int
    stop: int
    begin: int
    end: int


def align(text: str, words: Sequence[TimedWord], low: int, high: int) -> list[Piece] | None:
    """The pieces of the text, which contains single spaces only. None if no word is in the text.

    A word counts as found if at least half of its tokens are. `low` and `high` are the times of the sentence.
    """
    words = _with_marks(words)
    names, tokens = _tokens_of_text(text)
    spoken, owners = _tokens_of_words(words)
    found = _found_words(matches(spoken, names), owners, len(tokens))
    if not found:
        return None
    return _pieces(text, tokens, _parts(found, words, len(tokens), low, high))


def _with_marks(words: Sequence[TimedWord]) -> list[TimedWord]:
    """Gives the time of a word of marks alone to its neighbour, so that no silence seems to be there."""
    joined: list[TimedWord] = []
    opening: TimedWord | None = None
    for word in words:
        mark = word.text.strip()
        if _WORD.search(mark):
            begin = word.begin if opening is None or word.begin - opening.end >= MARK_GAP_MS else opening.begin
            joined.append(TimedWord(word.text, begin, word.end))
            opening = None
        elif mark and not mark.strip(_OPENING):
            opening = opening or word
        elif mark and joined and word.begin - joined[-1].end < MARK_GAP_MS:
            joined[-1] = TimedWord(joined[-1].text, joined[-1].begin, max(joined[-1].end, word.end))
    return joined


def _tokens_of_text(text: str) -> tuple[list[str], list[_Token]]:
    folded, places = fold(text), origins(text)
    if places is None:  # for example Hangul in separate jamo
        folds = [fold(character) for character in text]
        folded = "".join(folds)
        places = [at for at, piece in enumerate(folds) for _ in piece] + [len(text)]
    names, tokens = [], []
    for token in _TOKEN.finditer(folded):
        start, stop = token.span()
        names.append(token[0])
        # The fold of a ligature has more characters than the ligature.
        tokens.append(_Token(places[start], places[bisect_right(places, places[stop - 1], stop)]))
    return names, tokens


def _tokens_of_words(words: Sequence[TimedWord]) -> tuple[list[str], list[int]]:
    """The tokens of all words, and for each the number of its word."""
    names, owners, number = [], [], 0
    for token in _TOKEN.findall(fold(BORDER.join(word.text.replace(BORDER, "") for word in words))):
        if token == BORDER:
            number += 1
        else:
            names.append(token)
            owners.append(number)
    return names, owners


def matches(left: Sequence[Hashable], right: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Pairs of equal items of two sequences, ascending in both. Not always the most that are possible."""
    found: list[tuple[int, int]] = []
    ranges = [(0, len(left), 0, len(right), 0)]
    while ranges:
        start, stop, at, end, level = ranges.pop()
        while start < stop and at < end and left[start] == right[at]:
            found.append((start, at))
            start, at = start + 1, at + 1
        while start < stop and at < end and left[stop - 1] == right[end - 1]:
            stop, end = stop - 1, end - 1
            found.append((stop, end))
        if start == stop or at == end:
            continue
        if level == len(_RUN_LENGTHS):
            found += _repeated_items(left, start, stop, right, (at, end))
            continue
        ours = _unique_runs(left, start, stop, _RUN_LENGTHS[level])
        theirs = _unique_runs(right, at, end, _RUN_LENGTHS[level])
        anchors = _ascending([(place, theirs[run]) for run, place in ours.items() if run in theirs])
        found += anchors
        edges = [(start - 1, at - 1), *anchors, (stop, end)]
        ranges += [(one + 1, two, other + 1, last, level + 1) for (one, other), (two, last) in pairwise(edges)]
    return sorted(found)


def _repeated_items(
    left: Sequence[Hashable], start: int, stop: int, right: Sequence[Hashable], other: tuple[int, int]
) -> Iterator[tuple[int, int]]:
    """Matches of ranges without unique items, in chunks of the same share of both ranges, so in linear time."""
    at, end = other
    chunks = -(-max(stop - start, end - at) // _CHUNK_ITEMS)
    ours = [start + (stop - start) * chunk // chunks for chunk in range(chunks + 1)]
    theirs = [at + (end - at) * chunk // chunks for chunk in range(chunks + 1)]
    for (one, two), (three, four) in zip(pairwise(ours), pairwise(theirs), strict=True):
        for first, second in _common_subsequence(left[one:two], right[three:four]):
            yield one + first, three + second


def _common_subsequence(left: Sequence[Hashable], right: Sequence[Hashable]) -> Iterator[tuple[int, int]]:
    """The longest one, by dynamic programming: `lengths[i][j]` is that of `left[i:]` and `right[j:]`."""
    lengths = [[0] * (len(right) + 1)]
    for item in reversed(left):
        below, row = lengths[-1], [0]
        for at in range(len(right) - 1, -1, -1):
            row.append(below[at + 1] + 1 if right[at] == item else max(below[at], row[-1]))
        lengths.append(row[::-1])
    lengths.reverse()
    one = other = 0
    while one < len(left) and other < len(right):
        if left[one] == right[other]:
            yield one, other
            one, other = one + 1, other + 1
        elif lengths[one + 1][other] >= lengths[one][other + 1]:
            one += 1
        else:
            other += 1


def _unique_runs(items: Sequence[Hashable], start: int, stop: int, length: int) -> dict[Hashable, int]:
    """The place of each run that occurs once."""
    runs = zip(*(items[start + shift : stop] for shift in range(length)), strict=False)
    places: dict[Hashable, int] = {}
    repeated = set()
    for place, run in enumerate(runs, start):
        if places.setdefault(run, place) != place:
            repeated.add(run)
    for run in repeated:
        del places[run]
    return places


def _ascending(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest chain of pairs, which ascend in their first number, that ascends in the second number too."""
    tails: list[int] = []  # the least last number of a chain of each length
    ends: list[int] = []  # the pair with that number
    previous: list[int] = []
    for number, (_, second) in enumerate(pairs):
        length = bisect_left(tails, second)
        previous.append(ends[length - 1] if length else -1)
        tails[length : length + 1] = [second]
        ends[length : length + 1] = [number]
    chain = []
    number = ends[-1] if ends else -1
    while number >= 0:
        chain.append(pairs[number])
        number = previous[number]
    return chain[::-1]


def _found_words(pairs: Sequence[tuple[int, int]], owners: Sequence[int], tokens: int) -> list[tuple[int, int, int]]:
    """Word, first token and end of its tokens in the text, for each word of which at least half is in the text.

    A token of the word that was rewritten (`第二` as `第2`) stands for a token of the text beside it that no other word
    has. `tokens`: the number of tokens of the text.
    """
    sizes = Counter(owners)
    starts = {owner: place for place, owner in reversed(list(enumerate(owners)))}
    matched: dict[int, list[tuple[int, int]]] = {}
    for pair in pairs:
        matched.setdefault(owners[pair[0]], []).append(pair)
    kept = [(word, each) for word, each in sorted(matched.items()) if len(each) * 2 >= sizes[word]]
    found, done = [], 0
    for number, (word, each) in enumerate(kept):
        (first_of_word, first), (last_of_word, last) = each[0], each[-1]
        limit = kept[number + 1][1][0][1] if number + 1 < len(kept) else tokens
        start = max(done, first - (first_of_word - starts[word]))
        done = min(limit, last + starts[word] + sizes[word] - last_of_word)
        found.append((word, start, done))
    return found


def _parts(
    found: Sequence[tuple[int, int, int]], words: Sequence[TimedWord], tokens: int, low: int, high: int
) -> list[_Part]:
    """The found words, and between them the tokens that no word spells."""
    parts: list[_Part] = []
    done, time, known = 0, low, 0
    for word, first, stop in [*found, (len(words), tokens, tokens)]:
        limit = words[word].begin if word < len(words) else high
        if done < first:
            # Words that are not in the text stand for text that no word spells: `twenty` for `20`.
            unknown = words[known:word]
            begin = min(max(time, unknown[0].begin) if unknown else time, limit)
            end = max(begin, min(limit, max(each.end for each in unknown)) if unknown else limit)
            parts.append(_Part(done, first, begin, end))
        if word < len(words):
            parts.append(_Part(first, stop, words[word].begin, words[word].end))
            done, time, known = stop, words[word].end, word + 1
    return parts


def _pieces(text: str, tokens: Sequence[_Token], parts: Sequence[_Part]) -> list[Piece]:
    """Opening marks between two parts belong to the second one, all others to the first one."""
    nonblank = [0, *accumulate(character != " " for character in text)]
    pieces = []
    for number, part in enumerate(parts, 1):
        if number == len(parts):
            stop = len(text)
        else:
            following = parts[number]
            last, first = tokens[part.stop - 1].stop, tokens[following.first].start
            between = text[last:first]
            blank = between.rfind(" ")
            stop = last + (blank if blank >= 0 else len(between.rstrip(_OPENING)))
        pieces.append(Piece(nonblank[stop], part.begin, part.end))
    return pieces
