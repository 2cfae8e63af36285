"""The founding document's sample results for the vendor's sample recordings."""

import copy
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import msgspec


def recorded_result(family: str, file_url: str) -> dict[str, Any] | None:
    """The recorded document of a family for the file name of the URL, or None if there is none."""
    name = urlsplit(file_url).path.rpartition("/")[2]
    recording = _recordings().get(f"{family}.{name}.json")
    return None if recording is None else copy.deepcopy(recording) | {"file_url": file_url}


@cache
def _recordings() -> dict[str, dict[str, Any]]:
    folder = resources.files(__name__)
    return {
        entry.name: msgspec.json.decode(entry.read_bytes())
        for entry in folder.iterdir()
        if entry.name.endswith(".json")
    }
