"""Warnings about settings that are valid but probably wrong, or dangerous. Logged at the start."""

import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import dotenv_values

from app.settings import Settings

ENV_FILE = Path(".env")
MIN_SAFE_TOKEN_CHARS = 16
_PREFIX = "DASHSCOPE_"
# Variables of docker-compose.yml and of Compose itself, which reads the same `.env`.
_COMPOSE = {"API_ADDRESS", "API_PORTS", "POSTGRES_IMAGE", "POSTGRES_PASSWORD"}
_COMPOSE_PREFIX = "COMPOSE_"
_PRIVATE_SUFFIXES = (".internal", ".local", ".localdomain", ".localhost", ".svc")


def setting_warnings(
    settings: Settings, environ: Mapping[str, str] = os.environ, *, needs_key: bool = True
) -> Iterator[str]:
    """One line each. `environ`: the variables of the process. `needs_key`: jobs are submitted with the given keys."""
    if needs_key:
        yield from _missing_keys(settings)
    yield from _short_tokens(settings)
    yield from _plain_http(settings)
    yield from _unknown_names(environ)
    yield from _readable_files(settings)


def _missing_keys(settings: Settings) -> Iterator[str]:
    if not settings.served_regions:
        yield (
            "no region has a key, so every job is refused: set DASHSCOPE_BEIJING_API_KEY or"
            " DASHSCOPE_SINGAPORE_API_KEY; `serve --sandbox` needs no key"
        )


def _short_tokens(settings: Settings) -> Iterator[str]:
    for name, token in (("API_TOKEN", settings.api_token), ("ADMIN_TOKEN", settings.admin_token)):
        if token is not None and len(token.get_secret_value()) < MIN_SAFE_TOKEN_CHARS:
            yield (
                f"{name} has fewer than {MIN_SAFE_TOKEN_CHARS} characters and can be guessed: set a random one, for"
                " example the output of `openssl rand -hex 32`"
            )


def _plain_http(settings: Settings) -> Iterator[str]:
    for region in settings.served_regions.values():
        parts = urlsplit(region.base_url)
        if parts.scheme == "http" and not _is_private(parts.hostname or ""):
            variable = f"{_PREFIX}{region.name.upper()}_BASE_URL"
            yield f"{variable} is an http URL, so the API key crosses the network in clear: use https"


def _is_private(host: str) -> bool:
    """True for private and loopback addresses, and for names that only a private network resolves."""
    with suppress(ValueError):
        return ip_address(host).is_private
    return "." not in host or host.endswith(_PRIVATE_SUFFIXES)


def _unknown_names(environ: Mapping[str, str]) -> Iterator[str]:
    """Names in `.env`, and variables that begin with DASHSCOPE_, that are not settings."""
    known = {name.upper() for name in Settings.model_fields}
    in_file = {name.upper() for name in dotenv_values(ENV_FILE)} if ENV_FILE.is_file() else set()
    in_environment = {name.upper() for name in environ if name.upper().startswith(_PREFIX)}
    for name in sorted((in_file | in_environment) - known - _COMPOSE):
        if name.startswith(_COMPOSE_PREFIX):
            continue
        close = get_close_matches(name, known, n=1, cutoff=0.7)
        hint = f": did you mean {close[0]}?" if close else ""
        yield f"{name} is not a setting of the gateway and has no effect{hint}"


def _readable_files(settings: Settings) -> Iterator[str]:
    """Files with secrets or data that other users of the machine can read."""
    private = {ENV_FILE: "chmod 600"}
    if settings.database_url is None:
        private[settings.data_dir] = "chmod o-rwx"
    for path, remedy in private.items():
        with suppress(OSError):
            if path.stat().st_mode & stat.S_IROTH:
                yield f"other users of this machine can read {path}: {remedy} {shlex.quote(str(path))}"
