"""Marks at the borders of sentences stand where a reader expects them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.transcripts import text
from app.transcripts.captions import CaptionOptions
from app.transcripts.sentence_borders import has_words, settle_marks
from tests.transcripts.documents import cues, hostile_transcripts, sentence, spoken, transcript


def settled(*texts: str, speakers: str = "") -> list[str]:
    sentences = [
        sentence(said, 1000 * at, 1000 * at + 900, speaker_id=int(speakers[at]) if speakers else None)
        for at, said in enumerate(texts)
    ]
    return [item["text"] for item in settle_marks(sentences)]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["他问：“谁？", "”大家低头。", "”", "“是我。”小林说。"], ["他问：“谁？”", "大家低头。”", "“是我。”小林说。"]),
        (["他说“", "好。"], ["他说", "“好。"]),
        (["好", "。", "……", "走"], ["好。……", "走"]),
        (["He said (", "yes", ") and left."], ["He said", "(yes)", "and left."]),
        (['She said "', 'Yes."', '" He left.'], ["She said", '"Yes.""', "He left."]),
        (["«", "Oui »", "dit-il"], ["«Oui »", "dit-il"]),
        (
            ["……好吧", "…and then", "'tis", ".5 percent", '"Yes"', "»Ja«", "”Hej”"],
            ["……好吧", "…and then", "'tis", ".5 percent", '"Yes"', "»Ja«", "”Hej”"],
        ),
        (["„Ja“", "sagte er"], ["„Ja“", "sagte er"]),
        (["Er sagt: „Ja.", "“ Dann ging er."], ["Er sagt: „Ja.“", "Dann ging er."]),
        (["Er sagt: „", "Ja.", "“, sagt er."], ["Er sagt:", "„Ja.“,", "sagt er."]),
        (["Il dit « oui", " » et part."], ["Il dit « oui »", "et part."]),
        (["好", " ，是"], ["好 ，", "是"]),
        (["¿", "Qué?", "¡", "Hola!"], ["¿Qué?", "¡Hola!"]),
        (["نعم", "، لا"], ["نعم،", "لا"]),
        (["ठीक", "। है"], ["ठीक।", "है"]),
        (["♪", "😀", "+"], ["♪", "😀", "+"]),
        (["”", "好"], ["”好"]),
        (["……"], [""]),
    ],
)
def test_marks_go_to_the_sentence_that_they_belong_to(texts: list[str], expected: list[str]) -> None:
    assert settled(*texts) == expected


@given(st.text("a好 “”\"'.。(」„‚«…,", max_size=6), st.sampled_from("a好7.。…,”」"), st.sampled_from("a好7é"))
def test_no_mark_moves_between_a_last_mark_that_opens_nothing_and_a_letter(said: str, last: str, first: str) -> None:
    texts = [f"好{said}{last}", f"{first}{said}。"]
    assert settled(*texts) == texts


def test_marks_do_not_go_to_another_speaker() -> None:
    assert settled("谁？", "”我。", "”", "好。", speakers="0110") == ["谁？", "”我。”", "好。"]
    assert settled("谁？", "”", "好。", speakers="010") == ["谁？", "", "好。"]


@pytest.mark.slow
@given(hostile_transcripts())
def test_letters_stay_in_their_order(transcripts: list[dict[str, Any]]) -> None:
    for channel in transcripts:
        said = [item["text"] for item in channel["sentences"]]
        found = [item["text"] for item in settle_marks(channel["sentences"])]
        assert [letter for each in found for letter in each if letter.isalnum()] == [
            letter for each in said for letter in each if letter.isalnum()
        ]
        assert all(not each or has_words(each) for each in found)


@given(st.lists(st.text('好a。”“……" ,—', max_size=6), max_size=6))
def test_no_cue_consists_of_marks_alone(texts: list[str]) -> None:
    talk = transcript(*(sentence(said, 1000 * at, 1000 * at + 900) for at, said in enumerate(texts)))
    assert all(has_words("".join(cue.lines)) for cue in cues([talk], CaptionOptions()))


def test_a_mark_between_two_pauses_is_no_cue() -> None:
    talk = transcript(spoken((0, 500, "Yes"), (3000, 3100, " -"), (6000, 6500, " no")))
    assert [cue.lines for cue in cues([talk], CaptionOptions())] == [["Yes"], ["- no"]]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("他说——", "“是我。”", False),
        ("等一下……", "“好。”", False),
        ("He said —", "“me.”", True),
        ("Well…", "yes", True),
        ("ok", "，好", False),
        ("Hello", ", world", False),
        ("(", "yes", False),
        ("……", "……", True),
    ],
)
def test_the_nearest_letters_decide_about_a_space(left: str, right: str, expected: bool) -> None:
    assert text.needs_space(left, right) is expected
