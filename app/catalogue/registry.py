"""The models by id. To add a model, add its data to the module of its family."""

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from types import MappingProxyType
from typing import Any

from app.catalogue.fun_asr import FUN_ASR
from app.catalogue.model import Model, RegionalPrice
from app.catalogue.paraformer import PARAFORMER
from app.catalogue.qwen3_asr import QWEN3_ASR
from app.catalogue.qwen_audio import QWEN_AUDIO
from app.catalogue.schema import quoted
from app.catalogue.sensevoice import SENSEVOICE
from app.errors import Fault, UnknownModel

MODELS: Mapping[str, Model] = MappingProxyType(
    {model.id: model for model in (*FUN_ASR, *PARAFORMER, *SENSEVOICE, *QWEN3_ASR, *QWEN_AUDIO)}
)

_MAX_ID_CHARS = max(map(len, MODELS))


def find_model(model_id: str) -> Model:
    """The model of an id. Raises UnknownModel, with similar ids as suggestions."""
    if model := MODELS.get(model_id):
        return model
    # The comparison takes quadratic time, and clients choose the length of the id.
    close = get_close_matches(model_id[: _MAX_ID_CHARS * 2].lower(), MODELS, cutoff=0.7)
    hint = f"you may mean {' or '.join(close)}" if close else f"it has {', '.join(MODELS)}"
    detail = f"The catalogue has no model {quoted(model_id)}; {hint}"
    raise UnknownModel(detail, faults=[Fault("/model", detail)])


@cache
def find_price(model_id: str, region: str) -> RegionalPrice | None:
    """The price of a model in a region. None if the catalogue has no such model, or does not have it there."""
    prices: Mapping[Any, RegionalPrice] = MODELS[model_id].regions if model_id in MODELS else {}
    return prices.get(region)


def currency_of(model_id: str, region: str) -> str:
    """The currency of the price. A job may outlive its model in the catalogue; all prices are in yuan."""
    price = find_price(model_id, region)
    return price.currency if price else "CNY"
