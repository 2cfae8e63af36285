"""The budget of a run, at the catalogue's prices. A submit that could exceed it is not made."""

from decimal import Decimal

from app.catalogue import MODELS, cost
from app.certify.evidence import Unseen

MAX_CNY = Decimal("0.05")


class Budget:
    def __init__(self, limit: Decimal = MAX_CNY) -> None:
        self.limit = limit
        self.spent = Decimal(0)

    def reserve(self, model: str, region: str, seconds: int) -> None:
        """Count a submit whose files last `seconds`, each rounded up. Raises Unseen instead of exceeding the limit."""
        price = MODELS[model].regions[region]  # type: ignore[index] # the region was checked by the caller
        amount = cost(price, seconds * 1000)
        if self.spent + amount > self.limit:
            raise Unseen(f"the budget of {self.limit} yuan does not cover it")
        self.spent += amount
