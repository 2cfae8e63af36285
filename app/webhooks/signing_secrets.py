"""The clients' signing secrets: made on first use, rotated without an instant in which nothing verifies."""

from collections.abc import Collection, Mapping
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.identifiers import new_id
from app.webhooks.signing import new_secret

# A rotated secret still signs for so long, beside the new one, and at most so many sign.
OVERLAP_H = 24
MAX_SECRETS = 4


async def current_secret(session: AsyncSession, client_id: UUID) -> str:
    """Made now if the client has none yet."""
    return (await signing_secrets(session, {client_id}))[client_id][0]


async def signing_secrets(session: AsyncSession, client_ids: Collection[UUID]) -> Mapping[UUID, list[str]]:
    """All secrets that sign for each client now, the current one first. One statement once every client has one."""
    found = await _read(session, client_ids)
    missing = sorted(set(client_ids) - found.keys())
    if missing:
        for client_id in missing:
            await session.execute(_CREATE, {"id": new_id(), "client_id": client_id, "secret": new_secret()})
        found |= await _read(session, missing)
    return found


async def rotate_secret(session: AsyncSession, client_id: UUID) -> str:
    """The new secret. The one before it signs on for OVERLAP_H, so that receivers can change over in peace."""
    await current_secret(session, client_id)
    await session.execute(_EXPIRE, {"client_id": client_id, "hours": OVERLAP_H})
    await session.execute(_CREATE, {"id": new_id(), "client_id": client_id, "secret": new_secret()})
    await session.execute(_FORGET, {"client_id": client_id, "most": MAX_SECRETS})
    return await current_secret(session, client_id)


async def _read(session: AsyncSession, client_ids: Collection[UUID]) -> dict[UUID, list[str]]:
    found: dict[UUID, list[str]] = {}
    for row in await session.execute(_READ, {"client_ids": list(client_ids)}):
        found.setdefault(row.client_id, []).append(row.secret)
    return found


_READ = text("""
    SELECT client_id, secret FROM webhook_secrets
    WHERE client_id = ANY(CAST(:client_ids AS uuid[])) AND (expires_at IS NULL OR expires_at > now())
    ORDER BY expires_at DESC NULLS FIRST
""")

_CREATE = text("""
    INSERT INTO webhook_secrets (id, client_id, secret) VALUES (:id, :client_id, :secret)
    ON CONFLICT (client_id) WHERE expires_at IS NULL DO NOTHING
""")

_EXPIRE = text("""
    UPDATE webhook_secrets SET expires_at = now() + make_interval(hours => :hours)
    WHERE client_id = :client_id AND expires_at IS NULL
""")

_FORGET = text("""
    DELETE FROM webhook_secrets WHERE client_id = :client_id AND id NOT IN (
        SELECT id FROM webhook_secrets
        WHERE client_id = :client_id AND (expires_at IS NULL OR expires_at > now())
        ORDER BY expires_at DESC NULLS FIRST LIMIT :most
    )
""")
