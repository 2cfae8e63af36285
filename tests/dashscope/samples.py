"""The sample responses of the protocol, byte for byte."""

from pathlib import Path
from typing import Any

import orjson

FOLDER = Path(__file__).parent.parent / "data" / "dashscope"


def sample(name: str) -> bytes:
    return (FOLDER / f"{name}.json").read_bytes()


def parsed(name: str) -> Any:
    return orjson.loads(sample(name))
