"""Queries, and the sentences that they find."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.search.query import MAX_FOLDED, NothingToFind, TooLong, parse
from tests.search.search_case import find, found, segmented, sentences


@pytest.mark.parametrize(
    ("q", "text"),
    [
        ("国", "中国人"),
        ("中国", "我是中国人。"),
        ("中国人", "中国 人"),
        ("こんに", "こんにちは、世界"),
        ("ｶﾞ", "ガラス"),
        ("ภาษา", "ฉันพูดภาษาไทย"),
        ("학교", "나는 학교에서"),
        ("ខ្មែរ", "ភាសាខ្មែរ"),
        ("trời", "Một bầu trời đẹp"),
        ("𠮷", "𠮷野家"),
        ("𠮷野", "𠮷野家"),
        ("👍", "好的👍谢谢"),
        ("refun", "Two refunds."),
        ("r", "Two refunds."),
        ("refun*", "Two refunds."),
        ("REFUNDS", "two refunds"),
        ("uncharacteristi", "how uncharacteristically kind"),
        ("don't", "I don’t know"),
        ("e-mail", "your e–mail"),
        ("3.5", "version 3.5 is out"),
        ("138", "我的电话是13812345678"),
        ("iPhone手机", "我的iphone 手机坏了"),
        ("iPhone手机", "我的iPhone手机坏了"),
        ("手机iPh", "手机 iPhone坏了"),
        ("ＡＢＣ１", "abc123"),
        ("straße", "STRASSE"),
        ('"order number"', "the order, number four"),
        ('"订单 号码"', "订单，号码"),
        ("“订单”", "订单，号码"),
        ("你好，世界", "你好世界"),
        ("हिन्दी", "मैं हिन्दी बोलता हूँ"),
        ("number order", "the order number"),
        ('well "order number" 订单', "well, 订单 order number"),
        ("hello,", "Hello world"),
        ('"hello', "Hello world"),
        ("打开了？”大家", "谁把窗户打开了？”大家低头"),
        ("问：“谁？”大家", "他问：“谁？”大家低头"),
        ('say "yes', 'They say "yes" and go'),
        ("2026", "رقم ٢٠٢٦٠٤١٥"),
        ("९८७", "number 98765"),
        ("2026", "nimero \U0001e952\U0001e950\U0001e952\U0001e956"),  # Adlam
        ("👍 2", "👍 2 stars"),
        ("1,280", "1,280.50 yuan"),
        ('"138 0013 8000"', "call 138 0013 8000 now"),
        ("v2.1", "version v2.10"),
    ],
)
def test_query_finds_a_sentence(q: str, text: str) -> None:
    (snippet,) = found(q, "Before。", text, "After.")
    assert "<mark>" in snippet


@pytest.mark.parametrize(
    ("q", "text"),
    [
        ("国中", "中国"),
        ("中人", "中国人"),
        ("天气", "天，气"),
        ("funds", "Two refunds."),
        ("ời", "bầu trời"),
        ('"refund"', "Two refunds."),
        ('"order numb"', "order number"),
        ('"order number"', "order the number"),
        ("iPhone手机", "手机 iPhone"),
        ("iPhone手机", "myiPhone手机"),
        ("email", "e-mail"),
        ("3.5", "3,5 or 35"),
        ("cafe", "café"),
        ("简体", "簡體"),
        ("refund order", "refunds"),
    ],
)
def test_query_does_not_find_a_sentence(q: str, text: str) -> None:
    assert found(q, text) == []


@pytest.mark.parametrize("q", ["", " ", "。，", '""', "* - '", "_", "\u200b"])
def test_a_query_of_punctuation_is_refused(q: str) -> None:
    with pytest.raises(NothingToFind):
        parse(q)


@pytest.mark.slow
@pytest.mark.parametrize(
    "q",
    [
        "a天" * 100,
        "b地" * 99,
        "d-" * 99,
        '"' + "a b " * 49 + '"',
        "天" * 200,
        "㌖" * (MAX_FOLDED // 6),
        " ".join(map(chr, range(0x430, 0x494))),
        " ".join(f'"{chr(code)}"' for code in range(0x430, 0x462)),
    ],
)
def test_parsing_any_query_takes_little_time(q: str) -> None:
    """The event loop parses queries. These took 40 to 170 ms once, and take up to 10 ms."""
    assert min(_parse_s(q) for _ in range(5)) < 0.05


def _parse_s(q: str) -> float:
    re.purge()
    started = time.process_time()
    parse(q)
    return time.process_time() - started


def test_query_length_is_counted_after_folding() -> None:
    assert parse("㏂" * (MAX_FOLDED // 4)).parts
    with pytest.raises(TooLong):
        parse("㏂" * (MAX_FOLDED // 4 + 1))


def test_all_parts_must_be_in_one_sentence() -> None:
    assert found("refund order", "A refund.", "An order.", "Refund this order.") == [
        "<mark>Refund</mark> this <mark>order</mark>."
    ]


def test_a_sentence_with_repeated_words_is_one_hit() -> None:
    assert found("好", "好好好，好") == ["<mark>好好好</mark>，<mark>好</mark>"]


def test_a_phrase_may_continue_in_the_next_sentence() -> None:
    (match,) = find('"thank you very much"', sentences("I thank you,", "very much. Bye."))
    assert (match.begin_time, match.end_time) == (0, 1900)
    assert match.snippet == "I <mark>thank you, very much</mark>. Bye."


@pytest.mark.parametrize(("q", "text"), [('"go go"', "go"), ("好好好好", "好好"), ('"go go"', "Go.")])
def test_a_sentence_that_ends_one_occurrence_may_begin_the_next(q: str, text: str) -> None:
    times = [(match.begin_time, match.end_time) for match in find(q, sentences(text, text, text))]
    assert times == [(0, 1900), (1000, 2900)]


def test_a_long_run_of_characters_may_continue_over_the_end_of_a_sentence() -> None:
    assert found("今天天气很好", "今天天气。", "很好。") == ["<mark>今天天气。 很好</mark>。"]
    assert found("气很", "今天天气。", "很好。") == []
    assert found("气很", "今天天气", "很好。") == ["今天天<mark>气 很</mark>好。"]


def test_a_phrase_across_segments_is_found_once() -> None:
    texts = ["甲" * 2900 + "天地玄黄", "宇宙洪荒" + "乙" * 2996, "天地"]
    assert len(segmented(sentences(*texts))) == 3
    assert [match.begin_time for match in find("玄黄宇宙", sentences(*texts))] == [0]
    assert [match.begin_time for match in find("玄黄", sentences(*texts))] == [0]
    assert [match.begin_time for match in find("天地", sentences(*texts))] == [0, 2000]


def test_a_phrase_over_three_sentences_is_found_at_any_segment_border() -> None:
    talk = sentences("甲" * 2980, "one two", "three four", "five six")
    assert len(segmented(talk)) == 2
    (match,) = find('"two three four five"', talk)
    assert (match.begin_time, match.end_time) == (1000, 3900)


_SPOKEN = st.lists(st.sampled_from(["go", "天", "天地", "no go", "地，天。", "go!"]), min_size=1, max_size=40)


@given(
    _SPOKEN,
    _SPOKEN,
    st.sampled_from(['"go go"', "天地天地", '"no go go" 天', '天 "地 go"', "go 天地", '"go no go go"']),
)
def test_segments_have_the_same_hits_as_the_whole_text(first: list[str], second: list[str], q: str) -> None:
    channels = sentences(*first), sentences(*second, channel_id=1)
    cut = find(q, *channels, characters=30, overlap_characters=20)
    whole = find(q, *channels)
    assert [(hit.channel_id, hit.begin_time) for hit in cut] == [(hit.channel_id, hit.begin_time) for hit in whole]


def test_channels_are_never_joined() -> None:
    channels = sentences("今天天气"), sentences("很好", channel_id=1)
    assert find("今天天气很好", *channels) == []
    assert [match.channel_id for match in find("很好", *channels)] == [1]


def test_a_channel_without_sentences_is_found_by_its_text() -> None:
    (match,) = find("你好", {"text": "你好。", "sentences": []})
    assert (match.channel_id, match.begin_time) == (0, 0)


_TEXT = st.text(st.sampled_from("天地玄黄的 ，。abAB'-12ｱ\u3099éﬁ👍_"), min_size=1, max_size=12)
_RUN = st.text(st.sampled_from("天地玄黄的好学生"), min_size=1, max_size=8)


@given(st.lists(_TEXT, min_size=1, max_size=4), st.data())
def test_any_run_of_characters_is_found(texts: list[str], data: st.DataObject) -> None:
    run = data.draw(_RUN)
    before, after = data.draw(_TEXT), data.draw(_TEXT)
    start = data.draw(st.integers(0, len(run) - 1))
    stop = data.draw(st.integers(start + 1, len(run)))
    assert found(run[start:stop], *texts, before + run + after, *texts)


@given(st.lists(_TEXT, min_size=1, max_size=5), _RUN)
def test_absent_characters_are_not_found(texts: list[str], run: str) -> None:
    literal = any(run in "".join(text.split()) for text in texts)
    if len(run) < 4 and len(texts) == 1:
        assert bool(found(run, *texts)) == literal
    elif literal:
        assert found(run, *texts)


@given(st.lists(st.sampled_from(["order", "Number", "refunds", "a", "中国", "é"]), min_size=1, max_size=8), st.data())
def test_any_words_are_found_as_a_phrase(words: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(words) - 1))
    stop = data.draw(st.integers(start + 1, len(words)))
    assert found(f'"{" ".join(words[start:stop])}"', " ".join(words))
    assert found(" ".join(words[start:stop]), ", ".join(words))


@given(st.text(max_size=40), st.lists(st.text(max_size=30), max_size=3))
def test_any_query_can_be_matched_with_any_text(q: str, texts: list[str]) -> None:
    try:
        snippets = found(q, *texts)
    except NothingToFind:
        return
    assert all("<mark>" in snippet for snippet in snippets)
