"""Clients in the database: creation, tokens, revocation."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text, update

from app.clients.models import Client
from app.clients.service import (
    CurrentClient,
    create_client,
    ensure_default_client,
    find_clients,
    list_clients,
    revoke_client,
    revoke_client_by_id,
)
from app.clients.tokens import hash_token
from app.db import Sessions, raw_connection, transaction
from app.errors import ClientExists, Conflict, GatewayError, InvalidRequest, NotFound
from app.identifiers import new_id


async def find_client(sessions: Sessions, token: bytes) -> CurrentClient | None:
    async with raw_connection(sessions) as connection:
        [found] = await find_clients(connection, [hash_token(token)])
    return found


async def test_only_the_hash_of_a_token_is_stored(sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        client, token = await create_client(session, "alice")
    async with transaction(sessions) as session:
        found = await find_client(sessions, token.encode())
        row = (await session.execute(text("SELECT clients::text FROM clients"))).scalar_one()
    assert found is not None
    assert (found.id, found.name) == (client.id, "alice")
    assert token not in row


async def test_cursor_key_differs_per_token_and_from_the_stored_hash(sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        tokens = [(await create_client(session, name))[1] for name in ("alice", "bob")]
    first, again, other = [await find_client(sessions, token.encode()) for token in (tokens[0], *tokens)]
    assert first is not None
    assert other is not None
    assert first == again
    assert len({first.cursor_key, other.cursor_key, *map(hash_token, tokens)}) == 4
    assert repr(first.cursor_key) not in repr(first)


@pytest.mark.parametrize(
    ("name", "error"),
    [("alice", ClientExists), ("default", ClientExists), ("a b", InvalidRequest), ("", InvalidRequest)],
)
async def test_names_are_valid_and_unique_among_active_clients(
    sessions: Sessions, name: str, error: type[GatewayError]
) -> None:
    async with transaction(sessions) as session:
        await create_client(session, "alice")
    with pytest.raises(error):
        async with transaction(sessions) as session:
            await create_client(session, name)


async def test_concurrent_creation_of_a_name_succeeds_once(sessions: Sessions) -> None:
    async def create() -> str:
        async with transaction(sessions) as session:
            return (await create_client(session, "alice"))[1]

    results = await asyncio.gather(create(), create(), create(), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["ClientExists", "ClientExists", "str"]


async def test_revoked_token_is_unknown_and_its_name_can_be_reused(sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        old, token = await create_client(session, "alice")
        await revoke_client(session, "alice")
    assert await find_client(sessions, token.encode()) is None
    async with transaction(sessions) as session:
        new, _ = await create_client(session, "alice")
    assert new.id != old.id


async def test_missing_or_revoked_client_cannot_be_revoked(sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        client, _ = await create_client(session, "alice")
        await revoke_client_by_id(session, client.id)
        for client_id in (client.id, new_id()):
            with pytest.raises(NotFound):
                await revoke_client_by_id(session, client_id)
        with pytest.raises(NotFound):
            await revoke_client(session, "alice")


async def test_list_is_newest_first_and_includes_revoked_clients(sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        for name in ("a", "b", "c"):
            await create_client(session, name)
        await revoke_client(session, "b")
        listed = await list_clients(session)
    assert [(client.name, client.revoked_at is None) for client in listed] == [("c", True), ("b", False), ("a", True)]


async def test_use_is_recorded_once_a_minute(sessions: Sessions) -> None:
    async def used_at() -> object:
        await find_client(sessions, token.encode())
        async with transaction(sessions) as session:
            return await session.scalar(select(Client.last_used_at))

    async with transaction(sessions) as session:
        _, token = await create_client(session, "alice")
    first = await used_at()
    assert first is not None
    assert await used_at() == first
    async with transaction(sessions) as session:
        await session.execute(update(Client).values(last_used_at=func.now() - timedelta(seconds=61)))
    assert await used_at() != first


async def test_new_api_token_replaces_the_old_one_and_keeps_the_client(sessions: Sessions) -> None:
    ids = set()
    for token in ("first", "second", "second"):
        async with transaction(sessions) as session:
            await ensure_default_client(session, token)
        found = await find_client(sessions, token.encode())
        assert found is not None
        ids.add(found.id)
    assert await find_client(sessions, b"first") is None
    assert len(ids) == 1


async def test_replicas_starting_together_create_one_default_client(sessions: Sessions) -> None:
    async def start() -> None:
        async with transaction(sessions) as session:
            await ensure_default_client(session, "token")

    await asyncio.gather(*(start() for _ in range(5)))
    async with transaction(sessions) as session:
        assert (await session.scalars(select(Client.token_sha256))).all() == [hash_token("token")]


async def test_revoked_default_client_returns_only_with_another_token(sessions: Sessions) -> None:
    ids = []
    for token in ("first", "second", "third"):
        async with transaction(sessions) as session:
            await ensure_default_client(session, token)
        found = await find_client(sessions, token.encode())
        assert found is not None
        ids.append(found.id)
        async with transaction(sessions) as session:
            await revoke_client_by_id(session, found.id)
    assert len(set(ids)) == 1
    for token in ("first", "second", "third"):
        assert await find_client(sessions, token.encode()) is None
        with pytest.raises(Conflict, match="API_TOKEN is a revoked token"):
            async with transaction(sessions) as session:
                await ensure_default_client(session, token)
    async with transaction(sessions) as session:
        await ensure_default_client(session, "fourth")
        listed = await list_clients(session)
    assert [(client.name, client.revoked_at is None) for client in listed if client.id != ids[0]] == [
        ("default", False)
    ] * 3
    assert [client.revoked_at for client in listed if client.id == ids[0]] == [None]


async def test_replicas_starting_together_after_a_revocation_agree(sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        await ensure_default_client(session, "leaked")
        await revoke_client(session, "default")

    async def start() -> None:
        async with transaction(sessions) as session:
            await ensure_default_client(session, "new")

    await asyncio.gather(*(start() for _ in range(5)))
    assert await find_client(sessions, b"new") is not None
    async with transaction(sessions) as session:
        assert len(await list_clients(session)) == 2


async def test_token_of_a_revoked_client_is_refused_as_api_token(sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        _, token = await create_client(session, "alice")
        await revoke_client(session, "alice")
    with pytest.raises(Conflict, match="revoked"):
        async with transaction(sessions) as session:
            await ensure_default_client(session, token)


async def test_api_token_of_another_client_is_refused(sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        _, token = await create_client(session, "alice")
    with pytest.raises(ClientExists):
        async with transaction(sessions) as session:
            await ensure_default_client(session, token)
