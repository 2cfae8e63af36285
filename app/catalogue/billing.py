"""The bill of each file, from upstream's figures for its task. Pure, with exact decimals.

Upstream states what it bills for a task as a whole: `usage.duration` or `usage.seconds`, or numbers of tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache

from app.catalogue.model import Currency, RegionalPrice

_MS = Decimal("0.001")
_AMOUNT_STEP = Decimal("0.00001")
_MILLION = 1_000_000
# For an estimate: about what a second of fluent speech takes. DashScope publishes no figures.
_INPUT_TOKENS_PER_S = 25
_OUTPUT_TOKENS_PER_S = 4


@dataclass(frozen=True, slots=True)
class TaskUsage:
    """Upstream's figures for a task. None: not stated."""

    seconds: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Recognised:
    """The audio of a file that succeeded. Each channel is recognised and billed."""

    duration_ms: int
    channels: int
    has_text: bool = True


@dataclass(frozen=True, slots=True)
class Bill:
    """The bill of a file, in the units of the model's price, and its cost. None: not billed in this unit."""

    seconds: Decimal | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: Decimal = Decimal(0)
    currency: Currency = "CNY"


@lru_cache(maxsize=1024)  # new jobs all have the same cost
def amount_text(cost: Decimal) -> str:
    """A cost as responses show it: with five places, rounded half up."""
    return f"{cost.quantize(_AMOUNT_STEP, ROUND_HALF_UP):f}"


def bill_by_duration(price: RegionalPrice, file: Recognised) -> Bill:
    """The bill of a file without upstream's figures: its whole duration. Tokens cannot be derived from a duration."""
    if price.price_per_second is None:
        return Bill(currency=price.currency)
    return _bill_of_seconds(price, file.duration_ms * file.channels)


def bill_by_usage(price: RegionalPrice, usage: TaskUsage, files: Sequence[Recognised]) -> list[Bill] | None:
    """The bills of the files of a task: shares of its usage in proportion to their durations.

    The sum of the bills is exactly the bill of the task. None if upstream's figures are missing or not plausible.
    """
    weights = [file.duration_ms * file.channels for file in files]
    if price.price_per_second is not None:
        if usage.seconds is None or not _is_plausible(usage.seconds, files):
            return None
        return [_bill_of_seconds(price, share) for share in _shares(usage.seconds * 1000, weights)]
    if usage.input_tokens is None and usage.output_tokens is None:
        return None
    inputs = _shares(usage.input_tokens or 0, weights)
    outputs = _shares(usage.output_tokens or 0, weights)
    return [_bill_of_tokens(price, *tokens) for tokens in zip(inputs, outputs, strict=True)]


def has_figures(price: RegionalPrice, usage: TaskUsage) -> bool:
    """Whether upstream states what it bills, in the units of the model's price."""
    if price.price_per_second is not None:
        return usage.seconds is not None
    return usage.input_tokens is not None and usage.output_tokens is not None


def bill_of_lost(price: RegionalPrice, usage: TaskUsage) -> Bill | None:
    """The bill of a file without a result. The file is the only one of its task, and its duration is unknown.

    None if upstream's figures are missing.
    """
    if price.price_per_second is not None:
        return None if usage.seconds is None else _bill_of_seconds(price, usage.seconds * 1000)
    bills = bill_by_usage(price, usage, [Recognised(0, 1)])
    return bills[0] if bills else None


def estimated_cost(price: RegionalPrice, seconds: int) -> Decimal:
    """What `seconds` of speech on one channel cost, or cost about, where tokens are billed."""
    if price.price_per_second is not None:
        return price.price_per_second * seconds
    return _bill_of_tokens(price, _INPUT_TOKENS_PER_S * seconds, _OUTPUT_TOKENS_PER_S * seconds).cost


def _bill_of_seconds(price: RegionalPrice, billed_ms: int) -> Bill:
    seconds = billed_ms * _MS
    return Bill(seconds=seconds, cost=(price.price_per_second or Decimal(0)) * seconds, currency=price.currency)


def _bill_of_tokens(price: RegionalPrice, input_tokens: int, output_tokens: int) -> Bill:
    of_input = (price.price_per_million_input_tokens or Decimal(0)) * input_tokens
    of_output = (price.price_per_million_output_tokens or Decimal(0)) * output_tokens
    cost = (of_input + of_output) / _MILLION
    return Bill(input_tokens=input_tokens, output_tokens=output_tokens, cost=cost, currency=price.currency)


def _is_plausible(seconds: int, files: Sequence[Recognised]) -> bool:
    """Upstream bills speech, so not more than the audio, rounded up for each file and channel.

    A larger figure is wrong, or includes files of the task that were canceled. Zero is right for silence only.
    """
    if seconds == 0:
        return not any(file.has_text for file in files)
    return 0 < seconds <= sum((-(-file.duration_ms // 1000) + 1) * max(file.channels, 1) for file in files)


def _shares(total: int, weights: Sequence[int]) -> list[int]:
    """Whole shares of `total` in proportion to `weights`, with the sum `total`. Equal shares if all weights are 0."""
    weights = weights if any(weights) else [1] * len(weights)
    whole, before, seen = sum(weights), 0, 0
    shares = []
    for weight in weights:
        seen += weight
        until = total * seen // whole
        shares.append(until - before)
        before = until
    return shares
