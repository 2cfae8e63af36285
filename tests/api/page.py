"""The curl commands of `docs/api.md`, each with its documented status."""

import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

_BLOCKS = re.findall(r"```sh\n(.*?)```", (Path(__file__).parents[2] / "docs" / "api.md").read_text(), re.DOTALL)
# Variables that the reader sets first: address and tokens.
VARIABLES = _BLOCKS[0]

Operations = dict[tuple[str, str], dict[str, Any]]


class Call(NamedTuple):
    command: str
    method: str
    path: str
    query: frozenset[str]
    body: str | None
    form: bool
    status: int


def calls() -> list[Call]:
    return [
        _parse(command) for command in re.findall(r"^curl [^']*?(?:'[^']*'[^'\n]*)*$", "".join(_BLOCKS), re.MULTILINE)
    ]


def operations_of(document: dict[str, Any]) -> Operations:
    paths: dict[str, dict[str, Any]] = document["paths"]
    return {(method.upper(), path): found for path, methods in paths.items() for method, found in methods.items()}


def operation_of(call: Call, operations: Operations) -> tuple[str, str]:
    """Paths without a variable match first: in `/v1/webhooks/secret`, `secret` is not an id."""
    found = [
        (method, path)
        for method, path in operations
        if method == call.method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), call.path)
    ]
    assert found, f"there is no {call.method} {call.path}"
    return min(found, key=lambda operation: operation[1].count("{"))


def _parse(command: str) -> Call:
    words = shlex.split(command, comments=True)
    address = next(urlsplit(word.removeprefix("$GATEWAY")) for word in words if word.startswith("$GATEWAY"))
    form = "-F" in words
    method = words[words.index("-X") + 1] if "-X" in words else "POST" if form else "GET"
    body = words[words.index("-d") + 1] if "-d" in words else None
    status = re.search(r"  # (\d{3})$", command)
    assert status, f"the page does not say the status of {command}"
    return Call(
        command,
        method,
        address.path,
        frozenset(name for name, _ in parse_qsl(address.query)),
        body,
        form,
        int(status[1]),
    )
