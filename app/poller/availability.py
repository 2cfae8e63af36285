"""The accounts and regions that can take files of a model now, derived from the open circuits. Pure."""

from collections.abc import Collection, Mapping, Sequence

from app.catalogue import MODELS
from app.dashscope.circuits import MODEL_UNAVAILABLE, UPSTREAM_UNAVAILABLE, Circuit
from app.queue.blockages import Blocked
from app.queue.codes import WaitingCode


class Availability:
    """`accounts` are the configured ones by region. Circuits of other accounts are ignored."""

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
        """The circuit that blocks the account for the model: that of the whole account before that of the model."""
        return self._circuits.get((account, "")) or self._circuits.get((account, model))

    def has_own_circuit(self, account: str, model: str) -> bool:
        """Whether the account has a circuit for this model alone, or for all models if `model` is empty."""
        return (account, model) in self._circuits

    def works(self, region: str, model: str) -> bool:
        """Whether an account of the region takes files of the model."""
        return any(self.circuit(account, model) is None for account in self._accounts.get(region, ()))

    def is_held(self, region: str, model: str) -> bool:
        """Whether files should stay in the region for a probe that is due, because a probe may need a file.

        A probe after an outage needs a query only, which may take its whole time-out, so it holds no files.
        """
        circuits = [self.circuit(account, model) for account in self._accounts.get(region, ())]
        return any(circuit and circuit.probe_due and circuit.code != UPSTREAM_UNAVAILABLE for circuit in circuits)

    def alternatives(self, region: str, model: str) -> list[str]:
        """Other regions that can take the model's files now."""
        return [other for other in self._regions(model) if other != region and self.works(other, model)]

    def unknown_model(self, region: str, model: str) -> Circuit | None:
        """The circuit with upstream's message, if upstream knows no such model for any account of the region.

        Accounts that are refused for all models are left out, because upstream tells them nothing about the model.
        """
        accounts = [account for account in self._accounts.get(region, ()) if (account, "") not in self._circuits]
        circuits = [self._circuits.get((account, model)) for account in accounts]
        unknown = [circuit for circuit in circuits if circuit and circuit.code == MODEL_UNAVAILABLE]
        return unknown[0] if unknown and len(unknown) == len(circuits) else None

    def unknown_everywhere(self, model: str) -> Circuit | None:
        """The same for all served regions that have the model in the catalogue."""
        unknown = [self.unknown_model(region, model) for region in self._regions(model)]
        return unknown[0] if unknown and all(unknown) else None

    def blocked(
        self, waiting: Collection[tuple[str, str]], waiting_for_account: Collection[tuple[str, str, str]] = ()
    ) -> list[Blocked]:
        """All regions and models without an account that takes files, sorted.

        A region without any account is included only for the models of `waiting`: no new files may be posted there.
        `waiting_for_account`: region, model and account of files that only this account may submit.
        """
        found = [self._not_served(region, model) for region, model in waiting if not self._accounts.get(region)]
        if self._circuits:
            for region, accounts in self._accounts.items():
                models = [model for model in MODELS if region in MODELS[model].regions]
                found += [
                    self._blocked(region, model) for model in models if accounts and not self.works(region, model)
                ]
        found += [blocked for key in waiting_for_account if (blocked := self._blocked_for_account(*key))]
        return sorted(found, key=lambda blocked: (blocked.region, blocked.model, blocked.only_account))

    def _not_served(self, region: str, model: str) -> Blocked:
        everywhere = not self.alternatives(region, model)
        return Blocked(region, model, everywhere, WaitingCode.REGION_NOT_SERVED, account=None, since=None)

    def _blocked(self, region: str, model: str) -> Blocked:
        circuits = [circuit for account in self._accounts[region] if (circuit := self.circuit(account, model))]
        last = max(circuits, key=lambda circuit: (circuit.opened_at, circuit.account))
        everywhere = not self.alternatives(region, model)
        return Blocked(region, model, everywhere, last.code, last.account, last.opened_at)

    def _blocked_for_account(self, region: str, model: str, account: str) -> Blocked | None:
        if account not in self._accounts.get(region, ()):
            return Blocked(
                region, model, True, WaitingCode.ACCOUNT_NOT_CONFIGURED, account, since=None, only_account=account
            )
        circuit = self.circuit(account, model)
        if circuit is None:
            return None
        return Blocked(region, model, True, circuit.code, account, circuit.opened_at, only_account=account)

    def _regions(self, model: str) -> list[str]:
        offered = MODELS[model].regions if model in MODELS else {}
        return [region for region in self._accounts if self._accounts[region] and region in offered]
