"""Compares the URLs of files with the `file_url` that DashScope echoes in its responses. Pure.

DashScope echoes URLs as they were sent, but does not promise that: an echo may lack escapes, or spell the host in
another case. All such spellings of a URL have the same `file_key`. `share_key` is coarser. Files with the same
`share_key` are never sent in one task, so a spelling of one file's URL never matches another file of the task.
"""

import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from urllib.parse import unquote_to_bytes, urlsplit

import idna

# Depth to which escapes of escapes (`%252F`) are decoded. Each pass takes linear time.
_MAX_PASSES = 8
# Of files in DashScope's temporary storage.
TEMPORARY_SCHEME = "oss://"
_PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(.*)", re.DOTALL)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_ESCAPE = re.compile(b"%[0-9A-Fa-f]{2}")
_REPLACED = re.compile("[\udc80-\udcff\ufffd]+")


# The reconciler compares each of many unsure tasks with each of many listed tasks.
@lru_cache(maxsize=1024)
def file_key(url: str) -> str:
    """The URL without escapes, with scheme, host, port and dot segments normalised.

    URLs with equal keys cannot be told apart in a response. A plus sign becomes a blank, as in form data.
    """
    text = _unescaped(url)
    parts = _PARTS.fullmatch(text)
    if parts is None:
        return text
    scheme, authority, path, rest = parts.groups()
    scheme = scheme.lower()
    return f"{scheme}://{_normalised_authority(scheme, authority)}{_normalised_path(path)}{rest}"


def share_key(url: str) -> str:
    """The `file_key` without the details that an imprecise echo may change.

    These are case, Unicode composition, bytes that are not UTF-8, http or https, user and password.
    """
    key = _REPLACED.sub("\ufffd", file_key(url)).casefold()
    if not key.isascii():
        key = unicodedata.normalize("NFC", key)
    scheme, separator, rest = key.partition("://")
    if scheme not in _DEFAULT_PORTS or not separator:
        return key
    authority, slash, path = rest.partition("/")
    return f"{authority.rpartition('@')[2]}{slash}{path}"


def upload_path(url: str) -> str | None:
    """The path of an uploaded file. It is the same in `oss://path` and `https://bucket-host/path?signature`.

    Upstream echoes the second form. None if the scheme is not http, https or oss.
    """
    if url.startswith(TEMPORARY_SCHEME):
        return _unescaped(url.removeprefix(TEMPORARY_SCHEME))
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return _unescaped(parts.path).lstrip("/") if parts.scheme.lower() in _DEFAULT_PORTS else None


class DistinctFiles:
    """Collects URLs that may share a task. Each has a different `share_key`."""

    def __init__(self, urls: Iterable[str] = ()) -> None:
        self._keys: set[str] = set()
        self._uploads: set[str | None] = set()
        self._paths: set[str | None] = set()  # paths of other URLs; filled when the first upload is added
        self._others: list[str] = []  # URLs that are not in `_paths` yet
        for url in urls:
            self.add(url)

    def add(self, url: str) -> bool:
        """Add the URL, unless a response could confuse it with one that was added. Returns True if it was added."""
        key = share_key(url)
        if key in self._keys or self._clashes(url):
            return False
        self._keys.add(key)
        return True

    def _clashes(self, url: str) -> bool:
        """True if an upload and another URL have the same path. A response identifies an upload by its path only."""
        if not url.startswith(TEMPORARY_SCHEME):
            if self._uploads and _folded_path(url) in self._uploads:
                return True
            self._others.append(url)
            return False
        path = _folded_path(url)
        while self._others:
            self._paths.add(_folded_path(self._others.pop()))
        if path in self._paths:
            return True
        self._uploads.add(path)
        return False


def _folded_path(url: str) -> str | None:
    path = upload_path(url)
    return None if path is None else share_key(path)


def _unescaped(url: str) -> str:
    """Decode the escapes. Bytes that are not UTF-8 become surrogates, so that file names in GBK stay different."""
    if "%" in url:
        data = url.encode("utf-8", "surrogatepass")
        for _ in range(_MAX_PASSES):
            if not _ESCAPE.search(data):
                break
            data = unquote_to_bytes(data)
        url = data.decode("utf-8", "surrogateescape")
    return url.replace("+", " ").replace("\\", "/")


# Most files of a task are on one host.
@lru_cache(maxsize=1024)
def _normalised_authority(scheme: str, authority: str) -> str:
    if scheme not in _DEFAULT_PORTS:
        return authority
    user, at, host = authority.rpartition("@")
    host = host.lower().removesuffix(":").removesuffix(_DEFAULT_PORTS[scheme]).removesuffix(".")
    if not host.isascii():
        with suppress(UnicodeError):  # not a valid host name: compared unchanged
            host = idna.encode(host, uts46=True).decode("ascii")
    return f"{user}{at}{host}"


def _normalised_path(path: str) -> str:
    """The path without empty and dot segments, as HTTP libraries send it. An empty path becomes `/`."""
    if "//" not in path and "/." not in path:
        return path or "/"
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in {"", "."}:
            segments.append(segment)
    return "/" + "/".join(segments)
