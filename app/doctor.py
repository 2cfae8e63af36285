"""Checks a deployment: database, migrations, clocks, keys, waiting files and hot-word lists. Changes nothing.

A key is tested with a query of a task that does not exist. If its own region refuses it, the other region is queried
too, because the most common mistake is a key of the other region.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal
from uuid import uuid4

import httpx
import msgspec
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app import __version__, migrate
from app.catalogue import REGIONS
from app.catalogue.hot_words import MAX_LISTS
from app.certify.certificate import NEVER, read_certificates, summary
from app.connections import MAX_SKEW_S
from app.dashscope.circuits import read_circuits
from app.dashscope.client import upstream_clients
from app.dashscope.failures import Failure, FailureKind
from app.dashscope.vocabularies import VocabularyReading
from app.db import Sessions, command_sessions, transaction
from app.errors import DatabaseUnavailable
from app.outages import explain
from app.queue.due_work import count_open_tasks, count_waiting_files
from app.queue.submissions import read_group_limits
from app.readiness import check_writable, read_clock, read_revision, read_server_version
from app.settings import Account, Region, Settings
from app.tls import ssl_context
from app.vocabularies.service import AccountUse, account_use

CALL_TIMEOUT_S = 10
OLD_FILE_S = 600
# The reconciler decides about a lost submit within some seconds if upstream's task list can be read.
OLD_UNSURE_S = 60
_PROXY_VARIABLES = {"ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"}
_OUTAGE_SUMMARIES = {
    "disk_full": "cannot be written",
    "login_refused": "refuses the login",
    "misconfigured": "cannot be reached",
    "out_of_memory": "is out of memory",
    "out_of_resources": "is out of a resource",
    "read_only": "cannot be written",
    "starting": "does not respond yet",
    "timeout": "cannot be reached",
    "tls_failed": "cannot be reached over TLS",
    "too_many_connections": "has no connection left",
    "unknown_database": "refuses the login",
    "unreachable": "cannot be reached",
}

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the report. Level `error` means that jobs cannot be processed. `subject` begins with the check."""

    level: Level
    subject: str
    detail: str

    @property
    def check(self) -> str:
        """One word, such as `database` or `key`. docs/operations.md has all of them."""
        return self.subject.partition(" ")[0]


def as_json(findings: Sequence[Finding]) -> bytes:
    """The report for programs: `ok`, `version`, and `findings` with the fields of a line and `check`."""
    lines = [
        {"level": each.level, "check": each.check, "subject": each.subject, "detail": each.detail} for each in findings
    ]
    report = {"ok": all(each.level != "error" for each in findings), "version": __version__, "findings": lines}
    return msgspec.json.format(msgspec.json.encode(report))


async def examine(settings: Settings, database_url: str) -> list[Finding]:
    async with command_sessions(database_url, "doctor") as sessions:
        database = [finding async for finding in _examine_database(sessions, settings)]
        keys = await _examine_keys(settings)
        has_schema = any(finding.subject == "migrations" and finding.level == "ok" for finding in database)
        lists = [finding async for finding in _vocabularies(sessions, settings)] if has_schema else []
    return [*database, *keys, *lists, *_certificates(settings)]


async def _examine_database(sessions: Sessions, settings: Settings) -> AsyncIterator[Finding]:
    try:
        async with transaction(sessions) as session:
            yield await _version(session)
            await check_writable(session)
            yield await _clock(session)
            schema = await _schema(session)
            yield schema
            if schema.level == "ok":
                async for finding in _queue(session, settings):
                    yield finding
                for part in (_circuits(session, settings), _limits(session)):
                    async for finding in part:
                        yield finding
    except DatabaseUnavailable as error:
        yield Finding(
            "error", "database", f"{_OUTAGE_SUMMARIES.get(error.reason, 'cannot be used')}: {_advice(error, settings)}"
        )
    except SQLAlchemyError as error:
        yield Finding("error", "database", f"refused a query of doctor: {explain(error)}")


def _advice(error: DatabaseUnavailable, settings: Settings) -> str:
    """The server's message, and the setting to change if it is known."""
    match error.reason:
        case "too_many_connections":
            return (
                f"{error.explanation}; each process needs up to {settings.database_pool_size} connections:"
                " lower its DATABASE_POOL_SIZE, or raise max_connections"
            )
        case "login_refused" | "unknown_database":
            return f"{error.explanation}; see DATABASE_URL"
        case "tls_failed":
            return f"{error.explanation}; see sslmode and sslrootcert in DATABASE_URL"
        case _:
            return error.explanation


async def _version(session: AsyncSession) -> Finding:
    version = await read_server_version(session)
    if version < 15:
        return Finding("warning", "database", f"PostgreSQL {version}; the gateway is tested with 15 and newer")
    return Finding("ok", "database", f"PostgreSQL {version} is reachable")


async def _clock(session: AsyncSession) -> Finding:
    remote_time = await read_clock(session)
    return _compare_clocks("database", (datetime.now(UTC) - remote_time).total_seconds())


def _compare_clocks(owner: str, skew_s: float) -> Finding:
    if abs(skew_s) > MAX_SKEW_S:
        return Finding("warning", "clock", f"{skew_s:+.0f} s against the clock of the {owner}; correct one of them")
    return Finding("ok", "clock", f"agrees with the clock of the {owner}")


async def _schema(session: AsyncSession) -> Finding:
    revision = await read_revision(session)
    if gap := migrate.schema_gap(revision):
        return Finding("error", "migrations", gap)
    known = "the newest" if revision == migrate.head() else f"newer than {migrate.head()}, which this version needs"
    return Finding("ok", "migrations", f"at {revision}, {known}")


async def _queue(session: AsyncSession, settings: Settings) -> AsyncIterator[Finding]:
    for queue in sorted(await count_waiting_files(session), key=lambda queue: (queue.region, queue.model)):
        level: Level = "warning" if queue.oldest_s > OLD_FILE_S else "ok"
        detail = f"{queue.files} files wait, the oldest for {queue.oldest_s:.0f} s"
        if queue.region not in settings.served_regions:
            level, detail = "error", f"{detail}; the region has no key: set DASHSCOPE_{queue.region.upper()}_API_KEY"
        yield Finding(level, f"queue {queue.region} {queue.model}", detail)
    for tasks in await count_open_tasks(session):
        subject = f"tasks {tasks.account}"
        if tasks.lost_s is not None and tasks.state == "unsure":
            detail = f"{tasks.count} submits without a response, the oldest for {tasks.lost_s:.0f} s"
            yield Finding("warning" if tasks.lost_s > OLD_UNSURE_S else "ok", subject, detail)
        else:
            yield Finding("ok", subject, f"{tasks.count} {tasks.state}")


async def _circuits(session: AsyncSession, settings: Settings) -> AsyncIterator[Finding]:
    for circuit in await read_circuits(session):
        if circuit.account in settings.account_ids:
            subject = f"account {circuit.account} {circuit.model}".rstrip()
            cause = f"{circuit.code}: {circuit.message}"
            yield Finding("error", subject, f"submits are suspended since {circuit.opened_at:%F %T} UTC, {cause}")


async def _limits(session: AsyncSession) -> AsyncIterator[Finding]:
    for limit in await read_group_limits(session):
        yield Finding("ok", f"limit {limit.account} {limit.model}", f"{limit.max_files} files per task, learned")
    slowed = await session.execute(
        text("SELECT account, kind, throttled FROM budgets WHERE throttled > 0 ORDER BY 1, 2")
    )
    for row in slowed:
        yield Finding("warning", f"budget {row.account}", f"{row.kind}: {row.throttled} responses with 429 so far")


async def _vocabularies(sessions: Sessions, settings: Settings) -> AsyncIterator[Finding]:
    """The hot-word lists of each account. One that no client can see still counts for the account's limit."""
    async with httpx.AsyncClient(timeout=CALL_TIMEOUT_S, trust_env=False, verify=ssl_context()) as http:
        for account_id, upstream in upstream_clients(settings, http, deadline_s=CALL_TIMEOUT_S).items():
            listed = await upstream.list_vocabularies()
            subject = f"vocabularies {account_id}"
            if not isinstance(listed, Failure):
                async with transaction(sessions) as session:
                    use = await account_use(session, account_id)
                yield _describe_lists(subject, listed, use)
            elif listed.kind not in {FailureKind.ACCOUNT_BLOCKED, FailureKind.TRANSIENT}:  # see the key
                yield Finding("warning", subject, f"the lists cannot be read: {listed.message}")


def _describe_lists(subject: str, reading: VocabularyReading, use: AccountUse) -> Finding:
    listed = {each.id for each in reading.lists}
    left = max(0, MAX_LISTS - len(listed))
    parts = [f"{len(listed)} of {MAX_LISTS} lists used, {left} left"]
    if reading.gap:
        parts.append(f"there may be more: {reading.gap}")
    if unknown := sorted(listed - use.known):
        parts.append(f"{len(unknown)} of them unknown to the gateway: {', '.join(unknown)}")
    if use.of_revoked:
        parts.append(f"{use.of_revoked} of revoked clients: `clients revoke NAME --delete-vocabularies` deletes them")
    if use.unsure:
        parts.append(f"{use.unsure} whose creation is not certain yet")
    if not reading.gap and (missing := sorted(use.known - listed)):
        parts.append(f"{len(missing)} of the gateway no longer exist at DashScope: {', '.join(missing)}")
    return Finding("ok" if left else "warning", subject, "; ".join(parts))


async def _examine_keys(settings: Settings) -> list[Finding]:
    if not settings.served_regions:
        needs = "set DASHSCOPE_BEIJING_API_KEY or DASHSCOPE_SINGAPORE_API_KEY; `serve --sandbox` needs no key"
        return [Finding("error", "keys", f"no region has a key; {needs}")]
    # Like the gateway's own calls: without proxies from the environment, with the same certificates.
    async with httpx.AsyncClient(timeout=CALL_TIMEOUT_S, trust_env=False, verify=ssl_context()) as http:
        examined = await asyncio.gather(
            *(
                _examine_key(http, settings, region, account)
                for region in settings.served_regions.values()
                for account in region.accounts
            )
        )
    return [finding for findings in examined for finding in findings]


async def _examine_key(http: httpx.AsyncClient, settings: Settings, region: Region, account: Account) -> list[Finding]:
    subject = f"key {account.id}"
    response = await _query(http, region.base_url, account)
    if isinstance(response, str):
        return [Finding("error", subject, f"{region.base_url} cannot be reached ({response}){_unused_proxies()}")]
    clock = list(_upstream_clock(region, response))
    if response.status_code == 200:
        variable = settings.key_variable(account.region)
        source = f", from {variable}" if variable == "DASHSCOPE_API_KEY" else ""
        return [Finding("ok", subject, f"accepted{source}"), *clock]
    if response.status_code == 401:
        return [Finding("error", subject, await _refusal(http, settings, account)), *clock]
    return [Finding("warning", subject, f"{region.base_url} responded with HTTP {response.status_code}"), *clock]


def _certificates(settings: Settings) -> Iterator[Finding]:
    """The findings of the last run of `certify`, by region."""
    certificates = read_certificates(settings.data_dir)
    for region in settings.served_regions.values():
        certificate = certificates.get(region.name)
        detail = summary(certificate, region.base_url)
        is_wrong = detail != NEVER and certificate is not None and certificate.costs_correctness
        yield Finding("warning" if is_wrong else "ok", f"protocol {region.name}", detail)


def _unused_proxies() -> str:
    """A hint for a machine that reaches the internet through a proxy only."""
    names = sorted(name for name in os.environ if name.upper() in _PROXY_VARIABLES and os.environ[name])
    return f"; {' and '.join(names)} {'is' if len(names) == 1 else 'are'} set and not used" if names else ""


async def _refusal(http: httpx.AsyncClient, settings: Settings, account: Account) -> str:
    for other in REGIONS:
        if other != account.region:
            response = await _query(http, settings.base_url(other), account)
            if isinstance(response, httpx.Response) and response.status_code == 200:
                return f"this key belongs to the other region, {other}"
    return "refused; create a new key in the console of Model Studio"


async def _query(http: httpx.AsyncClient, base_url: str, account: Account) -> httpx.Response | str:
    """The response, or the name of the error."""
    headers = {"Authorization": f"Bearer {account.key.get_secret_value()}"}
    try:
        return await http.get(f"{base_url}/tasks/{uuid4()}", headers=headers)
    except httpx.HTTPError as error:
        return type(error).__name__


def _upstream_clock(region: Region, response: httpx.Response) -> Iterator[Finding]:
    try:
        remote_time = parsedate_to_datetime(response.headers["Date"])
    except (KeyError, TypeError, ValueError):
        return
    skew_s = (datetime.now(UTC) - remote_time).total_seconds()
    if abs(skew_s) > MAX_SKEW_S:
        yield _compare_clocks(f"upstream in {region.name}", skew_s)
