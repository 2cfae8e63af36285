"""All models in one mapping. Adding a model means adding data to its family's module."""

from collections.abc import Mapping
from decimal import Decimal
from difflib import get_close_matches
from types import MappingProxyType

from app.catalogue.fun_asr import FUN_ASR
from app.catalogue.model import Model, RegionalPrice
from app.catalogue.paraformer import PARAFORMER
from app.catalogue.qwen3_asr import QWEN3_ASR
from app.catalogue.schema import quoted
from app.catalogue.sensevoice import SENSEVOICE
from app.errors import Fault, UnknownModel

MODELS: Mapping[str, Model] = MappingProxyType(
    {model.id: model for model in (*FUN_ASR, *PARAFORMER, *SENSEVOICE, *QWEN3_ASR)}
)

_MAX_ID = max(map(len, MODELS))


def find_model(model_id: str) -> Model:
    """Raises UnknownModel with what the client may have meant."""
    if model := MODELS.get(model_id):
        return model
    # Comparing is quadratic in the length, and the length is the client's choice.
    close = get_close_matches(model_id[: _MAX_ID * 2].lower(), MODELS, cutoff=0.7)
    hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(MODELS)}"
    detail = f"The catalogue has no model {quoted(model_id)}; {hint}"
    raise UnknownModel(detail, faults=[Fault("/model", detail)])


def cost(offer: RegionalPrice, billed_ms: int) -> Decimal:
    """The price of `billed_ms` milliseconds in the offer's currency, exact and not rounded."""
    return offer.price_per_second * billed_ms / 1000
