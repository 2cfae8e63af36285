"""Which accounts can take files of a model now, derived from the open circuits. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.catalogue import MODELS
from app.dashscope.circuits import MODEL_UNAVAILABLE, UPSTREAM_UNAVAILABLE, Circuit


@dataclass(frozen=True, slots=True)
class Blocked:
    """A region and model that no account takes files for. `everywhere`: nor does any other region.

    `code`, `account` and `since` are those of the circuit that opened last: until then an account was left.
    """

    region: str
    model: str
    everywhere: bool
    code: str
    account: str
    since: datetime


class Availability:
    """`accounts` are the configured ones by region. Circuits of other accounts count for nothing."""

    def __init__(self, accounts: Mapping[str, Collection[str]], circuits: Sequence[Circuit]) -> None:
        self._accounts = accounts
        configured = {account for each in accounts.values() for account in each}
        self._circuits = {
            (circuit.account, circuit.model): circuit for circuit in circuits if circuit.account in configured
        }

    @property
    def open_circuits(self) -> Collection[Circuit]:
        return self._circuits.values()

    def circuit(self, account: str, model: str) -> Circuit | None:
        """What keeps the account from taking files of the model: the whole account's circuit before the model's."""
        return self._circuits.get((account, "")) or self._circuits.get((account, model))

    def has_own_circuit(self, account: str, model: str) -> bool:
        """Whether the account has a circuit for just this model, or, with an empty one, for all models."""
        return (account, model) in self._circuits

    def works(self, region: str, model: str) -> bool:
        """Whether some account of the region takes files of the model."""
        return any(self.circuit(account, model) is None for account in self._accounts.get(region, ()))

    def is_held(self, region: str, model: str) -> bool:
        """Whether files should stay for a probe that is due: moved away, they could not show that last_error is over.

        A query alone shows that upstream is back, which may take its whole time-out: that holds no files.
        """
        circuits = [self.circuit(account, model) for account in self._accounts.get(region, ())]
        return any(circuit and circuit.probe_due and circuit.code != UPSTREAM_UNAVAILABLE for circuit in circuits)

    def alternatives(self, region: str, model: str) -> list[str]:
        """Other regions that can take the model's files now."""
        return [other for other in self._regions(model) if other != region and self.works(other, model)]

    def unknown_model(self, region: str, model: str) -> Circuit | None:
        """A circuit with upstream's words, when upstream knows no such model for any account of the region."""
        found = [self._circuits.get((account, model)) for account in self._accounts.get(region, ())]
        marks = [circuit for circuit in found if circuit and circuit.code == MODEL_UNAVAILABLE]
        return marks[0] if marks and len(marks) == len(found) else None

    def unknown_everywhere(self, model: str) -> Circuit | None:
        """As `unknown_model`, for all regions that are served and have the model in the catalogue."""
        marks = [self.unknown_model(region, model) for region in self._regions(model)]
        return marks[0] if marks and all(marks) else None

    def blocked(self) -> Iterator[Blocked]:
        """All regions and models without an account that works, in order."""
        if not self._circuits:
            return
        for region in sorted(self._accounts):
            for model in sorted(MODELS):
                if region in MODELS[model].regions and self._accounts[region] and not self.works(region, model):
                    yield self._blocked(region, model)

    def _blocked(self, region: str, model: str) -> Blocked:
        circuits = [circuit for account in self._accounts[region] if (circuit := self.circuit(account, model))]
        last = max(circuits, key=lambda circuit: (circuit.opened_at, circuit.account))
        everywhere = not self.alternatives(region, model)
        return Blocked(region, model, everywhere, last.code, last.account, last.opened_at)

    def _regions(self, model: str) -> list[str]:
        offered = MODELS[model].regions if model in MODELS else {}
        return [region for region in self._accounts if self._accounts[region] and region in offered]
