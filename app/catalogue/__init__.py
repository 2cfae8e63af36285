"""DashScope's models, regions, parameters, limits and prices as data, and the validation of jobs. Pure."""

from app.catalogue.billing import (
    Bill,
    Recognised,
    TaskUsage,
    amount_text,
    bill_by_duration,
    bill_by_usage,
    bill_of_lost,
    estimated_cost,
    has_figures,
)
from app.catalogue.description import describe
from app.catalogue.model import (
    REGIONS,
    Currency,
    Deprecation,
    Family,
    Model,
    Parameter,
    RegionalPrice,
    RegionName,
    SampleRates,
    Scenario,
)
from app.catalogue.registry import MODELS, currency_of, find_model, find_price
from app.catalogue.scenarios import SCENARIOS
from app.catalogue.validation import ValidatedJob, choose_region, order_regions, validate_job, validate_parameters

__all__ = [
    "MODELS",
    "REGIONS",
    "SCENARIOS",
    "Bill",
    "Currency",
    "Deprecation",
    "Family",
    "Model",
    "Parameter",
    "Recognised",
    "RegionName",
    "RegionalPrice",
    "SampleRates",
    "Scenario",
    "TaskUsage",
    "ValidatedJob",
    "amount_text",
    "bill_by_duration",
    "bill_by_usage",
    "bill_of_lost",
    "choose_region",
    "currency_of",
    "describe",
    "estimated_cost",
    "find_model",
    "find_price",
    "has_figures",
    "order_regions",
    "validate_job",
    "validate_parameters",
]
