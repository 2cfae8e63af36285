"""Examples of the OpenAPI document.

pydantic sorts the keys of examples and FastAPI drops null values: both are restored. Examples of pages are built from
the examples of their items.
"""

from typing import Any

from app.api.openapi.schemas import Schema

_NULL = {"type": "null"}


def add_page_examples(schemas: dict[str, Schema]) -> None:
    """Adds an example to schemas with `items`, from the example of the items' schema."""
    for schema in schemas.values():
        items = schema.get("properties", {}).get("items", {}).get("items", {})
        if "$ref" in items and (examples := _resolved(items, schemas).get("examples")):
            schema.setdefault("examples", [{"items": examples[:1]}])


def restore_examples(schemas: dict[str, Schema]) -> None:
    """Orders the keys as the schema does, and sets missing required keys to null."""
    for schema in schemas.values():
        if "examples" in schema:
            schema["examples"] = [_restored(example, schema, schemas) for example in schema["examples"]]


def _restored(example: Any, schema: Schema, schemas: dict[str, Schema]) -> Any:
    schema = _resolved(schema, schemas)
    match example:
        case dict() if "properties" in schema:
            names = example.keys() | set(schema.get("required", ()))
            fields = {name: field for name, field in schema["properties"].items() if name in names}
            return {name: _restored(example.get(name), field, schemas) for name, field in fields.items()}
        case list() if "items" in schema:
            return [_restored(each, schema["items"], schemas) for each in example]
        case _:
            return example


def _resolved(schema: Schema, schemas: dict[str, Schema]) -> Schema:
    """Follows a reference and an `anyOf` with null to the schema itself."""
    options = [option for option in schema.get("anyOf", ()) if option != _NULL]
    if len(options) == 1:
        schema = options[0]
    return schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
