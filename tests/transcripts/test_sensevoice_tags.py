import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.transcripts import sensevoice_tags

TAGS = ("Speech", "Applause", "BGM", "Laughter", "NEUTRAL", "HAPPY", "ANGRY", "SAD", "SPECIAL_TOKEN_1")


def official_clean(text: str) -> str:
    """The steps of the vendor's function, implemented independently."""
    for tag in TAGS:
        for form in (f"<|{tag}|> ", f"<|/{tag}|>", f"<|{tag}|>"):
            text = text.replace(form, "")
    return re.sub(r"\s{2,}", " ", text).strip()


PARTS = st.sampled_from([f"<|{tag}|>" for tag in TAGS] + [f"<|/{tag}|>" for tag in TAGS])
TAGGED = st.lists(
    st.one_of(PARTS, st.sampled_from([" ", "  ", "\u3000", "\n", "<|", "|>", "你好", "Hi."]), st.text(max_size=3))
)


@given(TAGGED)
def test_cleaning_equals_the_vendors_function(parts: list[str]) -> None:
    assert sensevoice_tags.clean("".join(parts)) == official_clean("".join(parts))


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("<|Speech|> Hi. <|/Speech|> <|ANGRY|>", "Hi."),
        ("<|Speech|>你好<|/Speech|><|HAPPY|>", "你好"),
        ("<|BGM|><|Laughter|> <|/Laughter|><|/BGM|> <|SPECIAL_TOKEN_1|>", ""),
        ("a <|UNKNOWN|> b", "a <|UNKNOWN|> b"),
        ("<|speech|> case matters", "<|speech|> case matters"),
        ("white\u3000\u3000space  is\n\ncollapsed", "white space is collapsed"),
        ("one\u3000stays", "one\u3000stays"),
        ("<|Sp<|SAD|>eech|>", "<|Speech|>"),
    ],
)
def test_tags_are_removed_and_white_space_is_collapsed(text: str, cleaned: str) -> None:
    assert sensevoice_tags.clean(text) == cleaned


def test_emotions_and_events_are_reported_once_and_sorted() -> None:
    text = "<|Speech|> a <|SAD|><|ANGRY|><|SAD|> <|BGM|><|Applause|>"
    assert sensevoice_tags.emotions(text) == ["ANGRY", "SAD"]
    assert sensevoice_tags.events(text) == ["Applause", "BGM", "Speech"]


@pytest.mark.parametrize("text", ["", "plain", "<|/Speech|>", "<|SPECIAL_TOKEN_1|>", "<|Speech |>"])
def test_closing_and_special_tags_are_neither_events_nor_emotions(text: str) -> None:
    assert sensevoice_tags.events(text) == []
    assert sensevoice_tags.emotions(text) == []
