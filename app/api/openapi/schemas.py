"""Adapts the schemas that FastAPI writes to code generators: named enumerations, parameters without null."""

from collections.abc import Callable, Iterable
from typing import Any, get_args

from app.api.problems import PROBLEM_TYPES
from app.catalogue import REGIONS
from app.catalogue.model import Access, Currency, Feature, FeatureAvailability, Switch, Unit, Version
from app.catalogue.regions import DeploymentMode
from app.catalogue.schema import JsonType
from app.catalogue.sensevoice import SpeechEvent
from app.dashscope.circuits import AccountState

Schema = dict[str, Any]
Change = Callable[[Schema], Schema]

_NAMES = {
    frozenset(REGIONS): "Region",
    frozenset({"auto", *REGIONS}): "RegionChoice",
    frozenset(get_args(FeatureAvailability)): "Availability",
    frozenset(get_args(Feature)): "Feature",
    frozenset(get_args(JsonType)): "JsonType",
    frozenset(get_args(Access)): "ModelAccess",
    frozenset(get_args(AccountState)): "AccountState",
    frozenset(get_args(DeploymentMode)): "DeploymentMode",
    frozenset(get_args(SpeechEvent)): "SpeechEvent",
    frozenset(get_args(Currency)): "Currency",
    frozenset(get_args(Switch)): "Switch",
    frozenset(get_args(Unit)): "BilledUnit",
    frozenset(get_args(Version)): "ModelVersion",
}
# Values may be added to these enumerations without a new version of the API. They are strings in generated clients:
# many clients reject a whole response if a closed enumeration has an unknown value.
_OPEN = {
    "AccountState",
    "Availability",
    "BilledUnit",
    "Currency",
    "DeliveryStatus",
    "DeploymentMode",
    "EventType",
    "Family",
    "Feature",
    "FileErrorCode",
    "JsonType",
    "ModelAccess",
    "ModelVersion",
    "SpeechEvent",
    "WaitingCode",
    "WarningCode",
}

_SCHEMAS_BY_NAME = {"properties", "patternProperties", "$defs"}
_SCHEMA_LISTS = {"anyOf", "oneOf", "allOf", "prefixItems"}
_ONE_SCHEMA = {"items", "additionalProperties", "propertyNames", "not"}


def prepare_schemas(document: Schema) -> Schema:
    """Names every enumeration, opens those that may grow, and removes null from parameters."""
    found: dict[str, Schema] = {}
    document = map_schemas(document, lambda schema: _without_defaults(_named(schema, found)))
    schemas = document["components"]["schemas"]
    if taken := schemas.keys() & found.keys():
        raise ValueError(f"{', '.join(sorted(taken))}: an enumeration and another schema have the same name")
    schemas |= found
    for name in _OPEN & schemas.keys():
        schemas[name] = _open_enum(schemas[name]["enum"], schemas[name].get("description", ""))
    schemas["ProblemCode"] = _open_enum(
        (error.code for error in PROBLEM_TYPES), "Stable identifier of a kind of error."
    )
    schemas["Problem"]["properties"]["code"] = {"$ref": "#/components/schemas/ProblemCode"}
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])
    return document


def map_schemas(node: Any, change: Change) -> Any:
    """The document with `change` applied to each schema, inner schemas first. Examples stay unchanged."""
    match node:
        case list():
            return [map_schemas(each, change) for each in node]
        case dict():
            return {key: _map_member(key, value, change) for key, value in node.items()}
        case _:
            return node


def _map_member(key: str, value: Any, change: Change) -> Any:
    if key == "schema":
        return _map_schema(value, change)
    if key == "schemas":
        return {name: _map_schema(schema, change) for name, schema in value.items()}
    return value if key in {"example", "examples"} else map_schemas(value, change)


def _map_schema(schema: Any, change: Change) -> Any:
    if not isinstance(schema, dict):
        return schema  # `true`, `false`
    mapped: Schema = {}
    for key, value in schema.items():
        if key in _SCHEMAS_BY_NAME:
            mapped[key] = {name: _map_schema(each, change) for name, each in value.items()}
        elif key in _SCHEMA_LISTS:
            mapped[key] = [_map_schema(each, change) for each in value]
        else:
            mapped[key] = _map_schema(value, change) if key in _ONE_SCHEMA else value
    return change(mapped)


def _named(schema: Schema, found: dict[str, Schema]) -> Schema:
    name = _NAMES.get(frozenset(map(str, schema.get("enum", ()))))
    if name is None:
        return schema
    found[name] = {"type": "string", "enum": schema["enum"], "title": name}
    annotations = {key: value for key, value in schema.items() if key in {"description", "default"}}
    return {"$ref": f"#/components/schemas/{name}", **annotations}


def _without_defaults(schema: Schema) -> Schema:
    """Moves defaults into descriptions: openapi-typescript makes a field with a default required."""
    for field in schema.get("properties", {}).values():
        if default := field.pop("default", None):
            field["description"] = f"{field.get('description', '')} Default: `{default}`.".strip()
    return schema


def _open_enum(values: Iterable[str], description: str) -> Schema:
    known = list(values)
    description = f"{description} Open: more values may be added.".strip()
    return {"type": "string", "description": description, "x-extensible-enum": known, "examples": known[:1]}


def _without_null(schema: Schema) -> Schema:
    """A parameter is present or absent; a URL cannot express null."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) != 1:
        return schema
    rest = {key: value for key, value in schema.items() if key not in {"anyOf", "examples"}}
    return {**options[0], **rest}
