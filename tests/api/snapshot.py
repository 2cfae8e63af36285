"""`docs/openapi.json`: the committed OpenAPI document. `make openapi` writes it."""

import json
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from app.db import create_engine, create_sessions
from app.main import create_app
from app.settings import load_settings

SNAPSHOT = Path(__file__).parents[2] / "docs" / "openapi.json"


def any_app() -> FastAPI:
    """The application without a database, which the document does not need."""
    return create_app(load_settings({}), sessions=create_sessions(create_engine("postgresql://nobody@127.0.0.1/none")))


def as_text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SNAPSHOT.write_text(as_text(any_app().openapi()), encoding="utf-8")
