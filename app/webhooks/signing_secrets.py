"""The clients' signing secrets: creation on first use, and rotation with an overlap.

Secrets are stored in plain text, since signing needs them. A secret proves to a client that an event comes from the
gateway. It gives no access to the gateway. The log masks secrets by their prefix.
"""

import base64
import secrets
from collections.abc import Collection, Mapping
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.identifiers import new_id

SECRET_BYTES = 32  # Standard Webhooks requires 24 to 64
# Time for which a replaced secret still signs beside the new one.
OVERLAP_H = 24
# Most secrets that sign one message.
MAX_SECRETS = 4


def new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


async def current_secret(session: AsyncSession, client_id: UUID) -> str:
    """The client's newest secret. It is created if the client has none."""
    return (await signing_secrets(session, {client_id}))[client_id][0]


async def signing_secrets(session: AsyncSession, client_ids: Collection[UUID]) -> Mapping[UUID, list[str]]:
    """All valid secrets of each client, the current one first. Missing secrets are created.

    One statement if every client has a secret.
    """
    found = await _read(session, client_ids)
    missing = sorted(set(client_ids) - found.keys())
    if missing:
        for client_id in missing:
            await session.execute(_CREATE, {"id": new_id(), "client_id": client_id, "secret": new_secret()})
        found |= await _read(session, missing)
    return found


async def rotate_secret(session: AsyncSession, client_id: UUID, *, revoke: bool = False) -> str:
    """Create and return a new secret. The old one still signs for OVERLAP_H, so that receivers can switch.

    With `revoke` the new secret is at once the only one.
    """
    await current_secret(session, client_id)
    if revoke:
        await session.execute(_REVOKE, {"client_id": client_id})
    else:
        await session.execute(_EXPIRE, {"client_id": client_id, "hours": OVERLAP_H})
    await session.execute(_CREATE, {"id": new_id(), "client_id": client_id, "secret": new_secret()})
    await session.execute(_DELETE_EXPIRED, {"client_id": client_id, "max_secrets": MAX_SECRETS})
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

_REVOKE = text("DELETE FROM webhook_secrets WHERE client_id = :client_id")

# Deletes expired secrets and the oldest ones beyond :max_secrets.
_DELETE_EXPIRED = text("""
    DELETE FROM webhook_secrets WHERE client_id = :client_id AND id NOT IN (
        SELECT id FROM webhook_secrets
        WHERE client_id = :client_id AND (expires_at IS NULL OR expires_at > now())
        ORDER BY expires_at DESC NULLS FIRST LIMIT :max_secrets
    )
""")
