"""`clients`: the tokens and budgets of clients."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from app.commands.start import start
from app.settings import load_settings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from app.clients.budgets import Budget
    from app.db import Sessions

T = TypeVar("T")

commands = typer.Typer(help="Create, list, limit and revoke clients and their tokens.", no_args_is_help=True)

_BUDGET = "What the client may spend: amount, currency (CNY or USD), and day or month (in UTC), such as 100 CNY month."


@commands.command("create")
def create_client(
    name: Annotated[str, typer.Argument(help="Letters, digits, dots, underscores, hyphens.")],
    *,
    budget: Annotated[tuple[str, str, str] | None, typer.Option(help=_BUDGET, metavar="AMOUNT CURRENCY PERIOD")] = None,
) -> None:
    """Create a client and print its token, which is shown only once."""
    from app.clients import budgets, service

    given = _budget(budget)

    async def create(session: "AsyncSession") -> tuple[Any, str]:
        client, token = await service.create_client(session, name)
        if given:
            await budgets.set_budget(session, client.id, given)
        return client, token

    client, token = _with_database(create)
    print(f"The token of the client {client.name}, shown only once: {token}")


@commands.command("list")
def list_clients() -> None:
    """List all clients including revoked ones, newest first."""
    from app.clients import budgets, service

    async def read(session: "AsyncSession") -> tuple[Any, dict[Any, "Budget"]]:
        clients = await service.list_clients(session)
        return clients, await budgets.find_budgets(session, [client.id for client in clients])

    clients, found = _with_database(read)
    rows = [("NAME", "CREATED", "LAST USED", "REVOKED", "BUDGET")]
    rows += [
        (
            client.name,
            _minute(client.created_at),
            _minute(client.last_used_at),
            _minute(client.revoked_at),
            str(found.get(client.id, "-")),
        )
        for client in clients
    ]
    for row in rows:
        print(f"{row[0]:<32}  {row[1]:<16}  {row[2]:<16}  {row[3]:<16}  {row[4]}")


@commands.command("budget")
def set_client_budget(
    name: Annotated[str, typer.Argument(help="An active client.")],
    budget: Annotated[
        tuple[str, str, str] | None, typer.Argument(help=_BUDGET, metavar="AMOUNT CURRENCY PERIOD")
    ] = None,
    *,
    none: Annotated[bool, typer.Option("--none", help="Remove the budget.")] = False,
) -> None:
    """Set or remove the budget of a client. Accepted jobs stay accepted; their queued files wait for room in it."""
    from app.clients import budgets, service

    if (budget is None) is not none:
        raise typer.BadParameter("needs either AMOUNT CURRENCY PERIOD, such as 100 CNY month, or --none")
    given = _budget(budget)

    async def change(session: "AsyncSession") -> None:
        client = await service.find_active(session, name)
        await budgets.set_budget(session, client.id, given)

    _with_database(change)
    print(f"The budget of the client {name} is {given}." if given else f"The client {name} has no budget.")


@commands.command("revoke")
def revoke_client(
    name: Annotated[str, typer.Argument()],
    *,
    cancel_jobs: Annotated[
        bool, typer.Option("--cancel-jobs", help="Cancel all jobs of the client, also if it is revoked already.")
    ] = False,
    delete_vocabularies: Annotated[
        bool,
        typer.Option("--delete-vocabularies", help="Delete its hot-word lists, also if it is revoked already."),
    ] = False,
) -> None:
    """Revoke the client's token permanently. Its webhook deliveries end.

    Its jobs continue, and are billed, unless --cancel-jobs is given. Its hot-word lists stay, and count for the limit
    of their accounts, unless --delete-vocabularies is given. The built-in client `default` gets a new token at the
    next start.
    """
    from app.clients import service
    from app.queue import revocation
    from app.vocabularies.lists import delete_lists_of_revoked

    canceled = _with_sessions(
        lambda sessions: revocation.revoke_client(
            sessions, name, cancel_jobs=cancel_jobs, may_be_revoked=delete_vocabularies
        )
    )
    print(f"The token of the client {name} is revoked.")
    if cancel_jobs:
        print(f"Jobs canceled: {canceled}.")
    if delete_vocabularies:
        deleted = _with_sessions(lambda sessions: delete_lists_of_revoked(load_settings(), sessions, name))
        print(f"Hot-word lists deleted: {deleted}.")
    if name == service.DEFAULT_CLIENT:
        print("The next start of `serve` generates a new token, or needs a new API_TOKEN if that is set.")


def _budget(words: tuple[str, str, str] | None) -> "Budget | None":
    from app.clients.budgets import parse_budget

    try:
        return parse_budget(*words) if words else None
    except ValueError as error:
        raise typer.BadParameter(f"The budget {error}.") from None


def _minute(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else "-"


def _with_database(work: Callable[["AsyncSession"], Coroutine[Any, Any, T]]) -> T:
    """The result of `work` in a transaction."""

    async def in_transaction(sessions: "Sessions") -> T:
        from app.db import transaction

        async with transaction(sessions) as session:
            return await work(session)

    return _with_sessions(in_transaction)


def _with_sessions(work: Callable[["Sessions"], Coroutine[Any, Any, T]]) -> T:
    """The result of `work`, which makes its own transactions."""
    settings = start()
    from app.db import command_sessions
    from app.server import startup

    url = startup.open_database(settings, patience_s=0)
    if settings.database_url is None:
        startup.migrate_database(url)  # nothing else migrates an embedded database
    startup.wait_for_schema(url, patience_s=0)

    async def on_sessions() -> T:
        async with command_sessions(url, "clients") as sessions:
            return await work(sessions)

    return asyncio.run(on_sessions())
