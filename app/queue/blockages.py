"""Publishes the regions and models that no account takes files for. The API shows them as `waiting_reason`."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class Blocked:
    """A region and model that no account takes files for. `everywhere`: no other region takes them either.

    With an `only_account`, this is about the files that only this account may submit.

    `code`, `account` and `since` are those of the circuit that opened last. Until then one account was left.
    `account` is None if the region has no account. `since` is None if the region or the account is not configured: the
    files are then blocked since this was published first.
    """

    region: str
    model: str
    everywhere: bool
    code: str
    account: str | None
    since: datetime | None
    only_account: str = ""


async def publish_blockages(session: AsyncSession, blocked: Collection[Blocked]) -> None:
    """Replace the rows of `blockages`, which the API shows as `waiting_reason`. Two statements."""
    keys = {
        "regions": [each.region for each in blocked],
        "models": [each.model for each in blocked],
        "only_accounts": [each.only_account for each in blocked],
    }
    await session.execute(_UNBLOCK, keys)
    await session.execute(
        _BLOCK,
        {
            **keys,
            "everywhere": [each.everywhere for each in blocked],
            "codes": [each.code for each in blocked],
            "accounts": [each.account for each in blocked],
            "since": [each.since for each in blocked],
        },
    )


_UNBLOCK = text("""
    DELETE FROM blockages
    WHERE NOT EXISTS (
        SELECT FROM unnest(CAST(:regions AS text[]), CAST(:models AS text[]), CAST(:only_accounts AS text[]))
            AS blocked (region, model, only_account)
        WHERE blocked.region = blockages.region AND blocked.model = blockages.model
          AND blocked.only_account = blockages.only_account)
""")

_BLOCK = text("""
    INSERT INTO blockages (region, model, only_account, everywhere, code, account, since)
    SELECT region, model, only_account, everywhere, code, account, coalesce(since, now()) FROM unnest(
        CAST(:regions AS text[]), CAST(:models AS text[]), CAST(:only_accounts AS text[]),
        CAST(:everywhere AS bool[]), CAST(:codes AS text[]), CAST(:accounts AS text[]),
        CAST(:since AS timestamptz[]))
        AS blocked (region, model, only_account, everywhere, code, account, since)
    ON CONFLICT (region, model, only_account) DO UPDATE
        SET everywhere = excluded.everywhere, code = excluded.code, account = excluded.account,
            since = CASE WHEN blockages.code = excluded.code
                          AND excluded.code IN ('region_not_served', 'account_not_configured') THEN blockages.since
                    ELSE excluded.since END
        WHERE (blockages.everywhere, blockages.code, blockages.account, blockages.since)
            IS DISTINCT FROM (excluded.everywhere, excluded.code, excluded.account, excluded.since)
""")
