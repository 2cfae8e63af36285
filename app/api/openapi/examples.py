"""Examples in the OpenAPI document as they were written: pydantic sorts their keys, and FastAPI drops what is null.
Those of pages are made of their items'.
"""

from typing import Any

from app.api.openapi.schemas import Schema

_NULL = {"type": "null"}


def add_page_examples(schemas: dict[str, Schema]) -> None:
    """What has `items` shows those that their own schema shows."""
    for schema in schemas.values():
        items = schema.get("properties", {}).get("items", {}).get("items", {})
        if "$ref" in items and (examples := _resolved(items, schemas).get("examples")):
            schema.setdefault("examples", [{"items": examples[:1]}])


def restore_examples(schemas: dict[str, Schema]) -> None:
    """Of all components that have some: the keys in the order of the schema's, required ones that are missing null."""
    for schema in schemas.values():
        if "examples" in schema:
            schema["examples"] = [_restored(example, schema, schemas) for example in schema["examples"]]


def _restored(example: Any, schema: Schema, schemas: dict[str, Schema]) -> Any:
    schema = _resolved(schema, schemas)
    match example:
        case dict() if "properties" in schema:
            shown = example.keys() | set(schema.get("required", ()))
            fields = {name: field for name, field in schema["properties"].items() if name in shown}
            return {name: _restored(example.get(name), field, schemas) for name, field in fields.items()}
        case list() if "items" in schema:
            return [_restored(each, schema["items"], schemas) for each in example]
        case _:
            return example


def _resolved(schema: Schema, schemas: dict[str, Schema]) -> Schema:
    """The one schema behind references and `anyOf` with null."""
    options = [option for option in schema.get("anyOf", ()) if option != _NULL]
    if len(options) == 1:
        schema = options[0]
    return schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
