"""`docs/openapi.json`: the committed OpenAPI document. `make openapi` writes it."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from app.db import create_engine, create_sessions
from app.main import create_app
from app.settings import load_settings

SNAPSHOT = Path(__file__).parents[2] / "docs" / "openapi.json"


@cache
def any_app() -> FastAPI:
    """The application without a database, which the document does not need. One per process."""
    return create_app(load_settings({}), sessions=create_sessions(create_engine("postgresql://nobody@127.0.0.1/none")))


def committed_document() -> dict[str, Any]:
    """For lists of operations at collection: reading takes 5 ms, and making the document 400."""
    document: dict[str, Any] = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    return document


def as_text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SNAPSHOT.write_text(as_text(any_app().openapi()), encoding="utf-8")
