"""What the workers of one run of the tests share: a PostgreSQL server, its migrated template, and a used DATA_DIR."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

import fasteners  # type: ignore[import-untyped]

from app import migrate
from app.embedded.server import start_embedded
from tests.databases import on_server, with_database
from tests.processes import run

# Tests do not survive a power failure, and need not.
FAST = ("fsync", "synchronous_commit", "full_page_writes")


@dataclass(frozen=True)
class SharedServer:
    """`folder` belongs to the run: it has the data of the embedded server, and notes what is made already."""

    folder: Path

    def url(self) -> str:
        """Start or join the server. The last process that exits stops an embedded one."""
        return os.environ.get("TEST_DATABASE_URL") or start_embedded(self.folder)

    def template(self) -> str:
        """The name of the template, which the first process that asks for it makes."""
        with fasteners.InterProcessLock(self.folder / "template.lock"):
            if not self._is_made.exists():
                self._make_template(self.url())
                self._is_made.touch()
        return self._name

    def used_data_folder(self) -> Path:
        """A DATA_DIR whose embedded database has the newest schema and does not run. Tests use copies of it."""
        used = self.folder / "used"
        with fasteners.InterProcessLock(self.folder / "used.lock"):
            if not used.exists():
                new = self.folder / "used.new"
                code, _, errors = asyncio.run(run("migrate", DATA_DIR=str(new)))
                assert code == 0, errors
                new.rename(used)
        return used

    def drop_template(self) -> None:
        """Needed on a server that outlives the run."""
        if (url := os.environ.get("TEST_DATABASE_URL")) and self._is_made.exists():
            asyncio.run(on_server(url, f'DROP DATABASE "{self._name}"'))

    @property
    def _is_made(self) -> Path:
        return self.folder / "template"

    @property
    def _name(self) -> str:
        return f"asr_template_{self.folder.name.rpartition('-')[2]}"

    def _make_template(self, url: str) -> None:
        if "TEST_DATABASE_URL" not in os.environ:
            off = [f"ALTER SYSTEM SET {setting} = off" for setting in FAST]
            asyncio.run(on_server(url, *off, "SELECT pg_reload_conf()"))
        asyncio.run(on_server(url, f'CREATE DATABASE "{self._name}"'))
        migrate.upgrade(with_database(url, self._name))
