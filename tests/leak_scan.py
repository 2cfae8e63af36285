"""Searches a database and a folder for text that should have been deleted."""

import zlib
from itertools import pairwise
from pathlib import Path

import asyncpg

_COLUMNS = """
    SELECT c.oid::regclass::text AS table, a.attname AS column, a.atttypid = 'bytea'::regtype AS binary
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'm') AND a.attnum > 0
      AND NOT a.attisdropped
"""


async def leaks_in_database(database_url: str, phrase: str) -> set[str]:
    """The columns that contain the phrase: plain, compressed, or as the tokens of a search index."""
    connection = await asyncpg.connect(database_url)  # type: ignore[no-untyped-call]
    try:
        found = set()
        for column in await connection.fetch(_COLUMNS):
            name = f'"{column["column"]}"' + ("" if column["binary"] else "::text")
            rows = await connection.fetch(f"SELECT {name} AS value FROM {column['table']}")  # noqa: S608 - from the catalogue
            if any(_holds(row["value"], phrase) for row in rows if row["value"] is not None):
                found.add(f"{column['table']}.{column['column']}")
        return found
    finally:
        await connection.close()


def leaks_in_folder(folder: Path, phrase: str) -> set[str]:
    """The files that contain the phrase uncompressed. Compressed values are found in the database."""
    forms = _forms(phrase)
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and any(form in contents for contents in [path.read_bytes()] for form in forms)
    }


def _holds(value: str | bytes, phrase: str) -> bool:
    if isinstance(value, bytes):
        return any(form in text for text in (value, _inflated(value)) for form in _forms(phrase))
    # A search index contains pairs of characters.
    return any(form in value.encode() for form in _forms(phrase)) or all(
        f"{left}{right}" in value for left, right in pairwise(phrase)
    )


def _forms(phrase: str) -> list[bytes]:
    return [phrase.encode(), phrase.encode("unicode_escape"), phrase.encode("utf-16-le"), phrase.encode("gb18030")]


def _inflated(value: bytes) -> bytes:
    """The decompressed gzip or zlib members or raw deflate stream; empty for other data."""
    for bits in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):
        text, rest = b"", value
        try:
            while rest:
                inflater = zlib.decompressobj(bits)
                text += inflater.decompress(rest)
                rest = inflater.unused_data
        except zlib.error:
            pass
        if text:
            return text
    return b""
