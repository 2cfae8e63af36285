"""The bills of files add up to upstream's figures for their task, exactly."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalogue import (
    MODELS,
    Bill,
    Recognised,
    TaskUsage,
    bill_by_duration,
    bill_by_usage,
    bill_of_lost,
    estimated_cost,
)
from app.catalogue.model import RegionalPrice

FUN_ASR = MODELS["fun-asr"].regions["beijing"]
BY_TOKEN = RegionalPrice(
    price_per_million_input_tokens=Decimal("0.113"), price_per_million_output_tokens=Decimal("0.382"), currency="USD"
)


def test_bill_by_duration_is_exact_to_the_millisecond_and_counts_channels() -> None:
    assert bill_by_duration(FUN_ASR, Recognised(4726, 1)) == Bill(seconds=Decimal("4.726"), cost=Decimal("0.00103972"))
    assert bill_by_duration(FUN_ASR, Recognised(4726, 2)).cost == Decimal("0.00207944")
    assert bill_by_duration(FUN_ASR, Recognised(0, 0)).cost == 0


def test_upstream_bills_speech_and_not_the_length_of_the_file() -> None:
    bills = bill_by_usage(FUN_ASR, TaskUsage(seconds=200), [Recognised(300_000, 1)])
    assert bills == [Bill(seconds=Decimal(200), cost=Decimal("0.04400"))]


def test_bill_of_a_task_is_shared_by_duration() -> None:
    bills = bill_by_usage(FUN_ASR, TaskUsage(seconds=9), [Recognised(3834, 1), Recognised(4726, 1), Recognised(0, 0)])
    assert bills is not None
    assert [str(bill.seconds) for bill in bills] == ["4.031", "4.969", "0.000"]
    assert sum(bill.cost for bill in bills) == Decimal("0.00198")


def test_stereo_file_carries_the_share_of_two_mono_files() -> None:
    bills = bill_by_usage(FUN_ASR, TaskUsage(seconds=30), [Recognised(10_000, 2), Recognised(10_000, 1)])
    assert bills is not None
    assert [bill.seconds for bill in bills] == [20, 10]


@pytest.mark.parametrize(
    ("seconds", "audio"),
    [
        (None, Recognised(300_000, 1)),
        (0, Recognised(300_000, 1)),  # there is text, so there was speech
        (302, Recognised(300_000, 1)),  # more than the audio
        (2**31 - 1, Recognised(300_000, 1)),
    ],
)
def test_usage_that_is_missing_or_not_plausible_gives_no_bill(seconds: int | None, audio: Recognised) -> None:
    assert bill_by_usage(FUN_ASR, TaskUsage(seconds=seconds), [audio]) is None


def test_usage_of_zero_is_right_for_silence() -> None:
    assert bill_by_usage(FUN_ASR, TaskUsage(seconds=0), [Recognised(300_000, 1, has_text=False)]) == [
        Bill(seconds=Decimal(0), cost=Decimal(0))
    ]


def test_billed_seconds_may_be_rounded_up_for_each_file_and_channel() -> None:
    assert bill_by_usage(FUN_ASR, TaskUsage(seconds=6), [Recognised(5680, 1)])
    assert bill_by_usage(FUN_ASR, TaskUsage(seconds=12), [Recognised(5680, 2)])


def test_tokens_are_billed_by_their_own_prices() -> None:
    bills = bill_by_usage(BY_TOKEN, TaskUsage(seconds=9, input_tokens=101, output_tokens=20), [Recognised(1000, 1)])
    assert bills == [Bill(input_tokens=101, output_tokens=20, cost=Decimal("0.000019053"), currency="USD")]


def test_model_billed_by_token_has_no_bill_without_tokens() -> None:
    assert bill_by_usage(BY_TOKEN, TaskUsage(seconds=9), [Recognised(1000, 1)]) is None
    assert bill_by_duration(BY_TOKEN, Recognised(1000, 1)) == Bill(currency="USD")


@given(
    st.lists(st.builds(Recognised, st.integers(0, 43_200_000), st.integers(0, 4)), min_size=1, max_size=100),
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**31 - 1),
)
def test_shares_add_up_exactly(files: list[Recognised], first: int, second: int) -> None:
    bills = bill_by_usage(BY_TOKEN, TaskUsage(input_tokens=first, output_tokens=second), files)
    assert bills is not None
    assert sum(bill.input_tokens or 0 for bill in bills) == first
    assert sum(bill.output_tokens or 0 for bill in bills) == second
    assert sum(bill.cost for bill in bills) == (first * Decimal("0.113") + second * Decimal("0.382")) / 1_000_000
    seconds = sum(file.duration_ms // 1000 for file in files)
    if seconds and (of_seconds := bill_by_usage(FUN_ASR, TaskUsage(seconds=seconds), files)) is not None:
        assert sum(bill.cost for bill in of_seconds) == seconds * Decimal("0.00022")
        assert all(bill.cost >= 0 for bill in of_seconds)


def test_file_of_unknown_duration_has_the_whole_bill_of_its_task() -> None:
    bill = bill_of_lost(FUN_ASR, TaskUsage(seconds=30))
    assert bill == Bill(seconds=Decimal(30), cost=Decimal("0.00660"))
    assert bill_of_lost(FUN_ASR, TaskUsage()) is None
    tokens = bill_of_lost(BY_TOKEN, TaskUsage(input_tokens=1000, output_tokens=160))
    assert tokens == Bill(input_tokens=1000, output_tokens=160, cost=Decimal("0.00017412"), currency="USD")
    assert bill_of_lost(BY_TOKEN, TaskUsage(seconds=30)) is None


def test_estimate_is_the_price_of_a_span_of_speech() -> None:
    assert estimated_cost(FUN_ASR, 300) == Decimal("0.066")
    # 40 s: 1,000 input tokens and 160 output tokens.
    assert estimated_cost(BY_TOKEN, 40) == Decimal("0.00017412")
