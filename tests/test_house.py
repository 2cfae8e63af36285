"""The code uses other libraries, and tests use the code, through public names only. Shared state has typed readers."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Adapts uvicorn's HTTP parser, for which uvicorn has no public interface.
EXEMPT = ROOT / "app" / "server" / "http_protocol.py"
# Modules without an underscore that their libraries do not document.
INTERNAL_MODULES = ("fastapi.dependencies", "sqlalchemy.util", "uvicorn.protocols.http.httptools_impl")
# The names with an underscore that namedtuple, enum and os document.
PUBLIC = {"_asdict", "_exit", "_name_", "_replace", "_value_"}


@pytest.mark.parametrize("folder", ["app", "bench", "migrations", "tests"])
def test_no_private_name_of_another_module_is_used(folder: str) -> None:
    used = {
        str(path.relative_to(ROOT)): names
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != EXEMPT and (names := [*_private_names(ast.parse(path.read_text()))])
    }
    assert used == {}


@pytest.mark.parametrize(
    "code",
    [
        "from app.logs import _mask",
        "from app.logs._lines import mask",
        "import app._logs",
        "found = client._http",
        "setattr(run, '_grace_s', 1)",
        "getattr(run, '_grace_s')",
        "monkeypatch.setattr(run, '_grace_s', 1)",
        "monkeypatch.setattr('app.server.run._grace_s', 1)",
    ],
)
def test_private_names_are_found(code: str) -> None:
    assert [*_private_names(ast.parse(code))]


def _private_names(tree: ast.AST) -> Iterator[str]:
    nodes = [*ast.walk(tree)]
    attributes = [node for node in nodes if isinstance(node, ast.Attribute) and _is_private(node.attr)]
    # Private attributes that a class of the module has itself may be used on its other instances too.
    own = {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}}
    own |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    yield from (node.attr for node in attributes if node.attr not in own)
    for name in [*_imports(nodes), *_names_in_texts(nodes)]:
        if name.startswith(INTERNAL_MODULES) or any(map(_is_private, name.split("."))):
            yield name


def _names_in_texts(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Names given to functions such as `getattr` and `monkeypatch.setattr`, alone or after their module."""
    for call in nodes:
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute | ast.Name):
            function = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id
            if function in {"getattr", "setattr", "delattr"}:
                texts = [each.value for each in call.args[:2] if isinstance(each, ast.Constant)]
                yield from (text for text in texts if isinstance(text, str))


def _imports(nodes: Sequence[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name not in PUBLIC


def test_each_member_of_the_state_of_the_application_is_read_by_one_function() -> None:
    """`app.state` has no types: the function that reads a member declares its type for all others."""
    readers: dict[str, list[str]] = {}
    for path in sorted((ROOT / "app").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for name in _members_of_state(function):
                    readers.setdefault(name, []).append(f"{path.relative_to(ROOT)} {function.name}")
    assert {"authenticator", "services", "sessions", "settings", "stored_bodies", "uploader"} <= readers.keys()
    assert {name: found for name, found in readers.items() if len(found) > 1} == {}


def _members_of_state(function: ast.AST) -> set[str]:
    read = [node for node in ast.walk(function) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)]
    return {node.attr for node in read if ast.unparse(node.value).endswith("app.state")}
