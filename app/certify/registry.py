"""A check: a name, an assumption about DashScope, what follows if it is wrong, and the function that judges it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from app.certify.evidence import Evidence, Unseen

Severity = Literal["correctness", "performance", "information"]


class Verdict(StrEnum):
    OK = "ok"
    DIFFERS = "differs"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Seen:
    """The observation of a check. `as_assumed` is false if the assumption is wrong."""

    as_assumed: bool
    text: str


Judge = Callable[[Evidence], Seen]


@dataclass(frozen=True, slots=True)
class Check:
    """`severity` says what a wrong assumption costs. docs/certify.md has all fields but the function."""

    name: str
    severity: Severity
    assumption: str
    consequence: str
    judge: Judge


@dataclass(frozen=True, slots=True)
class CheckResult:
    check: Check
    region: str
    verdict: Verdict
    seen: str

    @property
    def costs_correctness(self) -> bool:
        return self.verdict is Verdict.DIFFERS and self.check.severity == "correctness"


class Subject:
    """The checks of one file. Their order is the order of the report."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    def check(self, severity: Severity, assumption: str, consequence: str) -> Callable[[Judge], Judge]:
        def register(judge: Judge) -> Judge:
            self.checks.append(Check(judge.__name__, severity, assumption, consequence, judge))
            return judge

        return register


def judge(check: Check, evidence: Evidence) -> CheckResult:
    """A response without a documented field is a difference. One that a check did not expect at all is unknown."""
    try:
        seen = check.judge(evidence)
    except Unseen as unseen:
        return CheckResult(check, evidence.region, Verdict.UNKNOWN, str(unseen))
    except (ValueError, KeyError, TypeError) as error:
        return CheckResult(check, evidence.region, Verdict.DIFFERS, f"a response of another shape ({error})")
    except (AttributeError, IndexError) as error:
        return CheckResult(check, evidence.region, Verdict.UNKNOWN, f"the response cannot be judged ({error})")
    return CheckResult(check, evidence.region, Verdict.OK if seen.as_assumed else Verdict.DIFFERS, seen.text)
