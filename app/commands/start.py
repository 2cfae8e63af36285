"""The start of all commands: settings, logs without secrets, signals, and errors of one line."""

import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn
from urllib.parse import unquote, urlsplit

import structlog
import typer

from app.errors import DatabaseUnavailable, GatewayError
from app.log_stream import standard_error
from app.logs import configure_logging, redact, register_secrets
from app.settings import Settings, SettingsError, load_settings

log = structlog.get_logger()


def command_group() -> typer.Typer:
    return typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,  # they print local variables, which may contain keys
        rich_markup_mode=None,
    )


def start() -> Settings:
    settings = load_settings()
    configure_logging(settings.log_level, stream=standard_error())
    register_secrets(_secrets(settings))
    return settings


def start_service() -> Settings:
    """`start` of a command that runs until a signal: a signal during the start is an orderly end too."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    return start()


def _secrets(settings: Settings) -> Iterator[str]:
    for token in (settings.api_token, settings.admin_token):
        if token is not None:
            yield token.get_secret_value()
    for region in settings.served_regions.values():
        for account in region.accounts:
            yield account.key.get_secret_value()
    if settings.database_url is not None:
        password = urlsplit(settings.database_url.get_secret_value()).password or ""
        yield from {password, unquote(password)}


def exit_on_signal(number: int, _frame: FrameType | None) -> NoReturn:
    """Exit like on SIGINT, so that the embedded database is stopped."""
    sys.exit(128 + number)


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


def fail(error: Exception) -> NoReturn:
    if isinstance(error, SettingsError):
        stop(str(error), 2)
    if isinstance(error, DatabaseUnavailable):
        stop(f"The database cannot be used: {error.explanation}", 1)
    if isinstance(error, GatewayError):
        stop(error.detail, 1)
    from app.sandbox import CannotListen
    from app.server.startup import StartError

    if isinstance(error, StartError):
        stop(str(error), 1)
    if isinstance(error, CannotListen):
        stop(f"The sandbox cannot listen on {error}; choose another port, or stop the program that uses it", 1)
    log.error("crashed", exc_info=error)
    sys.exit(1)


def stop(message: str, code: int) -> NoReturn:
    print(redact(message), file=sys.stderr)
    sys.exit(code)
