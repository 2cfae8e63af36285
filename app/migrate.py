"""Migrates the database schema, and compares it with this version. Safe to run from several processes at once."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

ROOT = Path(__file__).resolve().parent.parent


def upgrade(database_url: str, revision: str = "head") -> None:
    command.upgrade(_config(database_url), revision)


def downgrade(database_url: str, revision: str) -> None:
    command.downgrade(_config(database_url), revision)


def check(database_url: str) -> None:
    """Raises alembic's CommandError if the migrations do not create the tables that the models declare."""
    command.check(_config(database_url))


def head() -> str | None:
    """The newest revision of this version."""
    return _scripts().get_current_head()


def revisions() -> list[str]:
    """All revisions, in order."""
    return [script.revision for script in reversed([*_scripts().walk_revisions()])]


def knows(revision: str) -> bool:
    """Whether this version can migrate a database from `revision`."""
    return revision == head() or revision in _older_revisions()


def schema_gap(revision: str | None) -> str | None:
    """Why a database at `revision` cannot serve this version, or None if it can. `revision` is None without tables.

    An unknown revision belongs to a newer version and is accepted: otherwise all old replicas would refuse work
    during a rollout.
    """
    if revision is not None and revision not in _older_revisions():
        return None
    return (
        f"The database schema is at revision {revision or 'none'}, this version needs {head()}:"
        " run `python -m app migrate`"
    )


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config(""))


@cache
def _older_revisions() -> frozenset[str]:
    return frozenset(script.revision for script in _scripts().walk_revisions()) - {str(head())}


def _config(database_url: str) -> Config:
    config = Config(toml_file=ROOT / "pyproject.toml")
    config.attributes["database_url"] = database_url
    return config
