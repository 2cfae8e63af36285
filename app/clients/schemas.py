"""The budget of a client in requests and responses."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema

from app.api.request_body import RequestBody
from app.catalogue import Currency
from app.clients.budgets import AMOUNT_PATTERN, Budget, BudgetPeriod, parse_amount


def read_amount(value: Any) -> str:
    """The amount as text, from text or a number of JSON. Raises ValueError."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{parse_amount(f'{Decimal(str(value)):f}' if is_number else str(value)):f}"


class BudgetBody(RequestBody):
    """What a client may spend in each day or month of UTC."""

    model_config = ConfigDict(
        title="Budget", json_schema_extra={"examples": [{"amount": "100.00", "currency": "CNY", "period": "month"}]}
    )

    amount: Annotated[str, BeforeValidator(read_amount)] = Field(
        description="A decimal number. 0: nothing that costs.",
        examples=["100.00"],
        json_schema_extra={"pattern": f"^{AMOUNT_PATTERN}$"},
    )
    # A pattern, because the enumeration of currencies is open in the document: responses may gain values.
    currency: Annotated[Currency, WithJsonSchema({"type": "string", "pattern": "^(CNY|USD)$"})] = Field(
        description="That of the prices of the models that the client uses.", examples=["CNY"]
    )
    period: BudgetPeriod

    @property
    def value(self) -> Budget:
        return Budget(Decimal(self.amount), self.currency, self.period)

    @classmethod
    def of(cls, budget: Budget) -> "BudgetBody":
        return cls(amount=f"{budget.amount:f}", currency=budget.currency, period=budget.period)
