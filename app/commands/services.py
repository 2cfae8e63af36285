"""Commands that run until a signal: `serve`, `api` and `poller`."""

import socket
from typing import Annotated

import typer

from app.catalogue import REGIONS
from app.commands.start import command_group, start_service
from app.commands.tools import SANDBOX_PORT
from app.logs import register_secrets
from app.settings import Settings, load_settings

commands = command_group()


@commands.command()
def serve(
    *,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Use the bundled simulation of DashScope for both regions, and no key.")
    ] = False,
    sandbox_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the API of --sandbox. 0: a free port.")
    ] = SANDBOX_PORT,
) -> None:
    """Migrate the database, then run the API and the poller in one process."""
    settings = start_service()
    from app.server import run, startup
    from app.server.published_address import published_address

    with startup.bind(settings.host, settings.port) as listener:
        startup.warn_of_settings(settings, needs_key=not sandbox)
        url = startup.open_database(settings)
        startup.migrate_database(url)
        token = _default_token(settings, url)
        with published_address(settings.data_dir, run.address(listener)):
            if sandbox:
                run.run(_serve_with_sandbox(url, listener, token, sandbox_port))
            else:
                run.run(run.run_gateway(settings, url, listener, token))


async def _serve_with_sandbox(url: str, listener: socket.socket, token: str, port: int) -> None:
    from app.sandbox import running_sandbox
    from app.server import run

    async with running_sandbox(port=port) as running:
        overrides = running.overrides
        for region in REGIONS:  # an account of its own: tasks of a real account are not looked up in the sandbox
            overrides[f"dashscope_{region}_api_key"] = f"sandbox={overrides[f'dashscope_{region}_api_key']}"
        print(
            f"DashScope is simulated at {running.api_origin}: transcripts are invented. See docs/sandbox.md", flush=True
        )
        await run.run_gateway(load_settings(overrides), url, listener, token)


@commands.command()
def api() -> None:
    """Run the API without a poller.

    It starts without a database, and becomes ready when there is one.
    """
    settings = start_service()
    from app.server import run, startup

    with startup.bind(settings.host, settings.port) as listener:
        startup.warn_of_settings(settings)
        run.run(run.run_api(settings, startup.database_url(settings), listener))


@commands.command()
def poller(
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port for /livez, /readyz and /metrics. Unset: no port."),
    ] = None,
) -> None:
    """Run the poller without the API. It processes jobs.

    Several pollers may use the same database.
    """
    settings = start_service()
    from app.server import run, startup

    listener = None if port is None else startup.bind(settings.host, port)
    startup.warn_of_settings(settings)
    url = startup.open_database(settings)
    startup.wait_for_schema(url)
    run.run(run.run_poller_alone(settings, url, listener))


def _default_token(settings: Settings, url: str) -> str:
    from app.server.startup import generated_token, token_file

    if settings.api_token is not None:
        return settings.api_token.get_secret_value()
    token, is_new = generated_token(settings, url)
    register_secrets([token])
    if is_new:
        print(
            f"The token of the client default, shown only once, stored in {token_file(settings)}: {token}",
            flush=True,
        )
    else:
        print(f"The token of the client default is in {token_file(settings)}", flush=True)
    return token
