"""DashScope's models, regions, parameters, limits and prices as data, and the validation of jobs. Pure."""

from app.catalogue.model import (
    REGIONS,
    Deprecation,
    Family,
    Model,
    Parameter,
    RegionalPrice,
    RegionName,
    SampleRates,
    Scenario,
    describe,
)
from app.catalogue.registry import MODELS, cost, find_model
from app.catalogue.scenarios import SCENARIOS
from app.catalogue.validation import ValidatedJob, choose_region, validate_job, validate_parameters

__all__ = [
    "MODELS",
    "REGIONS",
    "SCENARIOS",
    "Deprecation",
    "Family",
    "Model",
    "Parameter",
    "RegionName",
    "RegionalPrice",
    "SampleRates",
    "Scenario",
    "ValidatedJob",
    "choose_region",
    "cost",
    "describe",
    "find_model",
    "validate_job",
    "validate_parameters",
]
