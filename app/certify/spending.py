"""The budget of a run, at the catalogue's prices. A submit that could exceed it is not made."""

from decimal import Decimal

from app.catalogue import find_price
from app.certify.evidence import Unseen

MAX_CNY = Decimal("0.05")


class RunBudget:
    def __init__(self, limit: Decimal = MAX_CNY) -> None:
        self.limit = limit
        self.spent = Decimal(0)

    def reserve(self, model: str, region: str, seconds: int) -> None:
        """Count a submit whose files last `seconds`, each rounded up. Raises Unseen instead of exceeding the limit."""
        price = find_price(model, region)
        per_second = price.price_per_second if price and price.currency == "CNY" else None
        if seconds and per_second is None:
            raise Unseen(f"the price of {model} is not in yuan per second")
        amount = (per_second or Decimal(0)) * seconds
        if self.spent + amount > self.limit:
            raise Unseen(f"the budget of {self.limit} yuan does not cover it")
        self.spent += amount
