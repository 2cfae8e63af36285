"""docs/sandbox.md has every directive, call, fault and code of the sandbox, and its ports."""

import ast
import inspect
import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from app.commands import tools
from app.sandbox import behaviour, create_sandbox
from app.sandbox.behaviour import behaviour_of
from app.sandbox.config import API_PORT, RESULTS_PORT
from app.sandbox.control import control_routes
from app.sandbox.faults import Faults, Quirk, RefusedKey

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "sandbox.md").read_text()


def first_cells(heading: str) -> list[str]:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


def test_page_has_every_directive() -> None:
    tree = ast.parse(inspect.getsource(behaviour))
    known = {
        node.value.value
        for case in ast.walk(tree)
        if isinstance(case, ast.match_case)
        for node in ast.walk(case.pattern)
        if isinstance(node, ast.MatchValue) and isinstance(node.value, ast.Constant)
    }
    assert {cell.partition(":")[0] for cell in first_cells("Directives in a file URL")} == known


@pytest.mark.parametrize("directive", first_cells("Directives in a file URL"))
def test_directives_of_the_page_are_accepted(directive: str) -> None:
    example = directive.replace("CODE", "DECODE_ERROR").replace(":S", ":5").replace(":N", ":5")
    assert behaviour_of(f"https://example.com/a.wav?sandbox={example}") != behaviour.Behaviour()


def test_page_has_every_call() -> None:
    routes = control_routes(create_sandbox().state)
    calls = {f"{method} {route.path}" for route in routes for method in (route.methods or set()) - {"HEAD"}}
    assert set(first_cells("Control")) == calls


def test_page_has_every_fault_and_code() -> None:
    assert first_cells("Faults") == [*Faults.__struct_fields__, *RefusedKey.__struct_fields__]
    for name in ("code", "kinds"):
        hint = get_type_hints(RefusedKey)[name]
        for value in get_args(hint if name == "code" else get_args(hint)[0]):
            assert f"`{value}`" in PAGE


def test_page_has_every_quirk() -> None:
    assert first_cells("Quirks") == list(get_args(Quirk))


def test_page_and_commands_have_the_ports() -> None:
    assert (tools.SANDBOX_PORT, tools.SANDBOX_RESULTS_PORT) == (API_PORT, RESULTS_PORT)
    assert set(re.findall(r"127\.0\.0\.1:(\d+)", PAGE)) == {str(API_PORT)}
    assert f"port {RESULTS_PORT}" in PAGE
