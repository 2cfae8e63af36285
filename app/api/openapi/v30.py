"""Converts the OpenAPI document to 3.0.3, for generators and gateways without support for 3.1.

3.0 has its own dialect of JSON Schema. Keywords that it lacks are left out; nothing is added.
"""

from typing import Any

from app.api.openapi.schemas import Schema, map_schemas

_UNKNOWN = {"propertyNames", "patternProperties", "$defs", "contentEncoding", "contentMediaType"}
_NULL = {"type": "null"}


def to_openapi_30(document: dict[str, Any]) -> dict[str, Any]:
    """Webhooks move to `x-webhooks`, which Redoc and other tools read."""
    derived: dict[str, Any] = map_schemas({**document, "openapi": "3.0.3"}, _to_30)
    if webhooks := derived.pop("webhooks", None):
        derived["x-webhooks"] = webhooks
    return derived


def _to_30(schema: Schema) -> Schema:
    schema = _one_type(_single_example(schema))
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if "contentMediaType" in schema:
        schema["format"] = "binary"
    for bound in ("Minimum", "Maximum"):
        if f"exclusive{bound}" in schema:
            schema[bound.lower()] = schema[f"exclusive{bound}"]
            schema[f"exclusive{bound}"] = True
    return _nullable({key: value for key, value in schema.items() if key not in _UNKNOWN})


def _single_example(schema: Schema) -> Schema:
    schema = dict(schema)
    examples = schema.pop("examples", [])
    return {**schema, "example": examples[0]} if examples else schema


def _one_type(schema: Schema) -> Schema:
    """Replaces a list of types: 3.0 has one type, which may be nullable."""
    types = schema.get("type")
    if not isinstance(types, list):
        return schema
    rest = {key: value for key, value in schema.items() if key != "type"}
    if "null" in types:
        rest["nullable"] = True
    others = [each for each in types if each != "null"]
    return {"type": others[0], **rest} if len(others) == 1 else rest


def _nullable(schema: Schema) -> Schema:
    """`anyOf` with null becomes `nullable`. A reference with siblings moves into an `allOf`."""
    if _NULL in schema.get("anyOf", ()):
        options = [option for option in schema.pop("anyOf") if option != _NULL]
        schema = {**(options[0] if len(options) == 1 else {"anyOf": options}), **schema, "nullable": True}
    if "$ref" in schema and len(schema) > 1:
        schema["allOf"] = [{"$ref": schema.pop("$ref")}]
    return schema
