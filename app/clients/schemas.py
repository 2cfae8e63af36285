"""Bodies of `/v1/clients`."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, WithJsonSchema

from app.api.request_body import RequestBody
from app.catalogue import Currency
from app.clients import models
from app.clients.budgets import AMOUNT_PATTERN, Budget, BudgetPeriod, parse_amount
from app.clients.service import NAME_PATTERN

_EXAMPLE: dict[str, JsonValue] = {
    "id": "019ab0a4-2b1d-7e04-8a55-0b6e9f6c2d10",
    "name": "call-centre",
    "created_at": "2026-11-23T08:00:00.120000Z",
    "last_used_at": None,
    "revoked_at": None,
    "budget": {"amount": "100.00", "currency": "CNY", "period": "month"},
}


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


class NewClient(RequestBody):
    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "call-centre"}]})

    # `create_client` checks the pattern, with a better message.
    name: str = Field(
        description="Unique among the active clients.", json_schema_extra={"pattern": f"^{NAME_PATTERN}$"}
    )
    budget: BudgetBody | None = Field(None, description="What the client may spend; null: as much as it likes.")


class ClientChange(RequestBody):
    """What is to be changed. Fields that are absent stay as they are."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"budget": {"amount": "100.00", "currency": "CNY", "period": "month"}}]}
    )

    budget: BudgetBody | None = Field(None, description="The new budget; null removes it.")


class Client(BaseModel):
    """A tenant of the gateway. A client sees only its own jobs, transcripts and deliveries."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: UUID
    name: str
    created_at: datetime
    last_used_at: datetime | None = Field(description="Recorded once per minute.")
    revoked_at: datetime | None
    budget: BudgetBody | None = Field(description="What the client may spend; null: as much as it likes.")

    @classmethod
    def of(cls, client: models.Client, budget: Budget | None) -> "Client":
        return cls(
            id=client.id,
            name=client.name,
            created_at=client.created_at,
            last_used_at=client.last_used_at,
            revoked_at=client.revoked_at,
            budget=BudgetBody.of(budget) if budget else None,
        )


class CreatedClient(Client):
    model_config = ConfigDict(json_schema_extra={"examples": [{**_EXAMPLE, "token": "asr_shown-this-once"}]})

    token: str = Field(description="Shown only in this response: the gateway stores a hash of the token.")
