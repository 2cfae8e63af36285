"""The documents and the test settings agree with the code: packages, layers, files, functions, make targets."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from app.commands.tools import Bench
from tests.conftest import SLOW_FILES, SLOW_FOLDERS

ROOT = Path(__file__).resolve().parent.parent
APP = ROOT / "app"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
PACKAGES = re.findall(r"^\| `app/(\w+)` \| ", ARCHITECTURE.partition("## The way of")[0], re.MULTILINE)


def test_architecture_describes_every_package_once() -> None:
    assert sorted(PACKAGES) == sorted(path.parent.name for path in APP.glob("*/__init__.py"))


def test_architecture_lists_the_packages_in_the_order_of_their_layers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    place = {name: number for number, layer in enumerate(layers) for name in re.findall(r"\w+", layer)}
    assert sorted(PACKAGES, key=lambda package: place[package]) == PACKAGES


def test_files_named_in_the_documents_exist() -> None:
    known = {path.relative_to(ROOT).as_posix() for path in [*APP.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]}
    for text in (ARCHITECTURE, CONTRIBUTING):
        for name in re.findall(r"`([\w/]+\.py)`", text):
            assert any(f"/{path}".endswith(f"/{name}") for path in known), name


@pytest.mark.slow
def test_functions_named_in_architecture_exist() -> None:
    defined = {
        node.name
        for path in APP.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", ARCHITECTURE))
    assert named
    assert named <= defined


def test_make_targets_named_in_the_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        named = set(re.findall(r"`make ([a-z-]+)`", document.read_text()))
        assert named <= targets, document.name


def test_every_benchmark_of_make_is_one_of_the_command() -> None:
    modules = re.findall(r"-m bench\.(\w+)", (ROOT / "Makefile").read_text())
    assert set(modules) == set(Bench)


def test_files_and_folders_marked_as_slow_exist() -> None:
    paths = [*(ROOT / "tests").rglob("*")]
    assert {path.stem for path in paths if path.suffix == ".py"} >= SLOW_FILES
    assert {path.name for path in paths if path.is_dir()} >= SLOW_FOLDERS


def test_links_to_headings_lead_to_a_heading() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", document.read_text()):
            target = document.parent / link if link else document
            assert anchor in _anchors(target.read_text()), f"{document.name}: {link}#{anchor}"


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
