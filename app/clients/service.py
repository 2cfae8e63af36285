"""Creates, lists, finds and revokes clients. Each function runs in the caller's transaction."""

import hmac
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from asyncpg import Record
from sqlalchemy import ARRAY, ColumnElement, LargeBinary, Uuid, any_, bindparam, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.clients.models import Client, ClientBudget
from app.clients.tokens import cursor_key, hash_token, new_token
from app.db import CompiledQuery, RawConnection
from app.errors import ClientExists, Conflict, Fault, InvalidRequest, NotFound
from app.outages import is_write_failure

DEFAULT_CLIENT = "default"
NAME_PATTERN = "[A-Za-z0-9._-]{1,64}"
_USE_RECORDED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class CurrentClient:
    """The authenticated client of a request."""

    id: UUID
    name: str
    cursor_key: bytes = field(repr=False)
    has_budget: bool = False


async def create_client(session: AsyncSession, name: str) -> tuple[Client, str]:
    """The new client and its token, which is not stored. Raises InvalidRequest or ClientExists."""
    if re.fullmatch(NAME_PATTERN, name) is None:
        detail = "needs 1 to 64 letters, digits, dots, underscores or hyphens"
        raise InvalidRequest(f"The name {detail}.", faults=[Fault("/name", detail)])
    if name == DEFAULT_CLIENT:
        raise ClientExists(f"The name {DEFAULT_CLIENT} is reserved for the built-in client of API_TOKEN.")
    token = new_token()
    statement = insert(Client).values(name=name, token_sha256=hash_token(token)).on_conflict_do_nothing()
    client = await session.scalar(statement.returning(Client))
    if client is None:
        raise ClientExists(f"There is an active client named {name}; revoke it first, or choose another name.")
    return client, token


async def list_clients(
    session: AsyncSession, *, limit: int | None = None, before: UUID | None = None
) -> Sequence[Client]:
    """Newest first, including revoked clients. With `before`, only clients older than that id."""
    statement = select(Client).order_by(Client.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(Client.id < before)
    return (await session.scalars(statement)).all()


async def get_client(session: AsyncSession, client_id: UUID) -> Client:
    """Finds revoked clients too. Raises NotFound."""
    client = await session.get(Client, client_id)
    if client is None:
        raise NotFound("There is no client with this id.")
    return client


async def find_active(session: AsyncSession, name: str) -> Client:
    """The active client with this name. Raises NotFound."""
    client: Client | None = await session.scalar(select(Client).where(Client.name == name, Client.revoked_at.is_(None)))
    if client is None:
        raise NotFound(f"There is no active client named {name}.")
    return client


async def revoke_client(session: AsyncSession, name: str) -> Client:
    """Refuses the token permanently, from the commit on; the client's jobs continue. Raises NotFound.

    The built-in client becomes active again at the next start with another API_TOKEN.
    """
    return await _revoke(session, Client.name == name, f"There is no active client named {name}.")


async def revoke_client_by_id(session: AsyncSession, client_id: UUID) -> Client:
    """Revoke the client with this id. Effect and errors are those of `revoke_client`."""
    return await _revoke(session, Client.id == client_id, "There is no active client with this id.")


async def find_revoked(session: AsyncSession, client: UUID | str) -> Sequence[Client]:
    """The revoked client with this id, or all revoked clients with this name. Raises NotFound."""
    condition = Client.id == client if isinstance(client, UUID) else Client.name == client
    found = (await session.scalars(select(Client).where(condition, Client.revoked_at.is_not(None)))).all()
    if not found:
        raise NotFound(f"There is no client {client}.")
    return found


async def is_revoked(session: AsyncSession, token: str) -> bool:
    """True if a client with this token was revoked."""
    statement = select(Client.id).where(Client.token_sha256 == hash_token(token), Client.revoked_at.is_not(None))
    return await session.scalar(statement) is not None


async def ensure_default_client(session: AsyncSession, token: str) -> None:
    """Sets the built-in client's token. The client keeps its id and so its jobs.

    Raises Conflict for a revoked token, ClientExists for a token of another client.
    """
    digest = hash_token(token)
    # The oldest row is the client itself; the other rows hold its revoked tokens.
    own = select(Client).where(Client.name == DEFAULT_CLIENT).order_by(Client.id).limit(1).with_for_update()
    created = insert(Client).values(name=DEFAULT_CLIENT, token_sha256=digest).on_conflict_do_nothing()
    # Several replicas may start at once on an empty database: those that lose the race find the client in the next
    # round. ON CONFLICT covers both unique indexes: that of the name and that of the token.
    while True:
        client = await session.scalar(own)
        await _check_default_token(session, token)
        if client is not None:
            await _set_token(session, client, digest)
            return
        if await session.scalar(created.returning(Client.id)) is not None:
            return


async def _check_default_token(session: AsyncSession, token: str) -> None:
    if await is_revoked(session, token):
        raise Conflict("API_TOKEN is a revoked token; set a new value.")
    owner = await session.scalar(select(Client.name).where(Client.token_sha256 == hash_token(token)))
    if owner not in {None, DEFAULT_CLIENT}:
        raise ClientExists(f"API_TOKEN is the token of the client {owner}; set another value.")


async def _set_token(session: AsyncSession, client: Client, digest: bytes) -> None:
    """Sets another token. A revoked token stays in a revoked client, so that it is never accepted again."""
    revoked = None
    if client.revoked_at is not None:
        columns = ("name", "token_sha256", "created_at", "last_used_at", "revoked_at")
        revoked = Client(**{column: getattr(client, column) for column in columns})
    client.token_sha256, client.revoked_at = digest, None
    await session.flush()
    if revoked is not None:
        session.add(revoked)
        await session.flush()


async def find_clients(connection: RawConnection, digests: Collection[bytes]) -> list[CurrentClient | None]:
    """The active client for each token hash, None if there is none.

    One statement; for clients whose use was not recorded within a minute, a second one records it.
    """
    rows = await _FIND.fetch(connection, digests=set(digests))
    if unrecorded := [row["id"] for row in rows if row["unrecorded"]]:
        try:
            await _RECORD_USE.fetch(connection, ids=unrecorded)
        except Exception as error:
            if not is_write_failure(error):  # the request itself may not need to write
                raise
    by_digest = {row["token_sha256"]: row for row in rows}
    # Concurrent requests come from few clients: each CurrentClient is built once.
    clients = {digest: _client(by_digest.get(digest), digest) for digest in {*digests}}
    return [clients[digest] for digest in digests]


def _client(row: Record | None, digest: bytes) -> CurrentClient | None:
    if row is None or not hmac.compare_digest(row["token_sha256"], digest):
        return None
    return CurrentClient(row["id"], row["name"], cursor_key(digest), row["has_budget"])


async def _revoke(session: AsyncSession, condition: ColumnElement[bool], detail: str) -> Client:
    statement = update(Client).where(condition, Client.revoked_at.is_(None)).values(revoked_at=func.now())
    client: Client | None = await session.scalar(statement.returning(Client))
    if client is None:
        raise NotFound(detail)
    return client


_unrecorded = or_(Client.last_used_at.is_(None), Client.last_used_at < func.now() - _USE_RECORDED_EVERY)
_has_budget = select(ClientBudget.client_id).where(ClientBudget.client_id == Client.id).exists()
_FIND = CompiledQuery(
    select(
        Client.id, Client.name, Client.token_sha256, _unrecorded.label("unrecorded"), _has_budget.label("has_budget")
    ).where(Client.token_sha256 == any_(bindparam("digests", type_=ARRAY(LargeBinary))), Client.revoked_at.is_(None)),
    # Runs before the statements of a request: together they must end before the timeouts of proxies.
    timeout_s=5,
)
_RECORD_USE = CompiledQuery(
    update(Client)
    .where(Client.id == any_(bindparam("ids", type_=ARRAY(Uuid))), _unrecorded)
    .values(last_used_at=func.now())
)
