"""Finds the gateway of the command: that of GATEWAY_URL, the one that runs on DATA_DIR, or a temporary one."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

from app.clients.tokens import new_token
from app.logs import register_secrets
from app.sandbox import running_sandbox
from app.server import run, startup
from app.server.published_address import running_gateway
from app.settings import Settings, load_settings
from app.transcribe.gateway_client import Gateway
from app.transcribe.inputs import TranscribeError

START_S = 30.0

Work = Callable[[Gateway], Coroutine[None, None, int]]


def with_gateway(settings: Settings, work: Work, *, sandbox: bool) -> int:
    """The result of `work`. Raises TranscribeError, SettingsError or StartError."""
    if sandbox:
        return _with_sandbox(work)
    if settings.gateway_url is not None:
        if settings.api_token is None:
            raise TranscribeError("GATEWAY_URL is set, but API_TOKEN is not: it needs a token of that gateway")
        return asyncio.run(_use(settings.gateway_url, settings.api_token.get_secret_value(), work, is_local=False))
    if url := running_gateway(settings.data_dir):
        return asyncio.run(_use(url, _stored_token(settings), work))
    if not settings.served_regions:
        raise TranscribeError(
            f"No gateway runs on DATA_DIR {settings.data_dir}, and no key is set. Set DASHSCOPE_BEIJING_API_KEY, or"
            " GATEWAY_URL and API_TOKEN, or try --sandbox, which invents transcripts"
        )
    url = startup.open_database(settings)
    startup.migrate_database(url)
    if settings.api_token is not None:
        token = settings.api_token.get_secret_value()
    else:
        token, _ = startup.generated_token(settings, url)
    register_secrets([token])

    async def own_settings(_: AsyncExitStack) -> Settings:
        return settings

    return _run(own_settings, url, token, work)


def _with_sandbox(work: Work) -> int:
    """On a database that is deleted at the end: waiting files of a real one must not go to the sandbox."""
    folder = startup.temporary_data_dir("transcribe")
    overrides: dict[str, Any] = {"data_dir": folder, "database_url": None, "upload_store": None, "public_url": None}
    url = startup.open_database(load_settings(overrides))
    startup.migrate_database(url)

    async def sandbox_settings(stack: AsyncExitStack) -> Settings:
        running = await stack.enter_async_context(running_sandbox())
        return load_settings(overrides | running.overrides)

    return _run(sandbox_settings, url, new_token(), work)


def _run(
    make_settings: Callable[[AsyncExitStack], Coroutine[None, None, Settings]],
    database_url: str,
    token: str,
    work: Work,
) -> int:
    """Run a gateway on a free port of this machine until the work is done."""
    codes: list[int] = []

    async def main() -> None:
        async with AsyncExitStack() as stack:
            settings = await make_settings(stack)
            listener = stack.enter_context(startup.bind("127.0.0.1", 0))

            async def use() -> None:
                codes.append(await _use(run.address(listener), token, work))

            await run.run_gateway(settings, database_url, listener, token, main=use)

    run.run(main())
    return codes[0] if codes else 1


async def _use(url: str, token: str, work: Work, *, is_local: bool = True) -> int:
    gateway = Gateway(url, token, is_local=is_local)
    try:
        await gateway.until_ready(START_S if is_local else 0)
        return await work(gateway)
    finally:
        await gateway.close()


def _stored_token(settings: Settings) -> str:
    if settings.api_token is not None:
        return settings.api_token.get_secret_value()
    path = startup.token_file(settings)
    try:
        token = path.read_text().strip()
    except OSError as error:
        raise TranscribeError(f"{path} cannot be read: {error.strerror}. Set API_TOKEN instead") from error
    register_secrets([token])
    return token
