"""Forms of a file's URL: for comparing it with the `file_url` of an answer, and for telling files of a task apart.

DashScope echoes URLs as they were sent. Nothing promises that: an echo may have its escapes undone, or the host in
another case. `file_key` is the same for all such spellings of a URL. `share_key` is coarser: files with equal ones
are never sent in one task, so no spelling of one file's URL can be that of another file of the task. Pure.
"""

import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from urllib.parse import unquote_to_bytes, urlsplit

import idna

# Escapes of escapes (`%252F`) are undone that deep. Each pass takes time in proportion to the length of the URL.
_MAX_PASSES = 8
_OSS = "oss://"
_PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(.*)", re.DOTALL)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_ESCAPE = re.compile(b"%[0-9A-Fa-f]{2}")
_REPLACED = re.compile("[\udc80-\udcff\ufffd]+")


# Reconciling compares each of many attempts with each of many tasks.
@lru_cache(maxsize=1024)
def file_key(url: str) -> str:
    """The URL without escapes, with host, scheme, port and dot segments in their usual form.

    Equal keys mean the same file as far as an answer can tell. A plus sign is a blank: decoders of forms make it one.
    """
    text = _unescaped(url)
    parts = _PARTS.fullmatch(text)
    if parts is None:
        return text
    scheme, authority, path, rest = parts.groups()
    scheme = scheme.lower()
    return f"{scheme}://{_usual_authority(scheme, authority)}{_usual_path(path)}{rest}"


def share_key(url: str) -> str:
    """The key of a URL without what a careless echo may lose as well.

    That is: case, composition of characters, bytes that are not UTF-8, http or https, user and password.
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
    """The path by which an upload is known in both its forms, `oss://path` and `https://bucket-host/path?signature`.

    Upstream echoes the latter. None for what is no URL of http, https or oss.
    """
    if url.startswith(_OSS):
        return _unescaped(url.removeprefix(_OSS))
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return _unescaped(parts.path).lstrip("/") if parts.scheme.lower() in _DEFAULT_PORTS else None


class DistinctFiles:
    """Collects URLs that may share a task, each with a `share_key` of its own."""

    def __init__(self, urls: Iterable[str] = ()) -> None:
        self._keys: set[str] = set()
        self._uploads: set[str | None] = set()
        self._paths: set[str | None] = set()  # of other URLs, once there are uploads to compare with
        self._others: list[str] = []  # URLs that are not in `_paths` yet
        for url in urls:
            self.add(url)

    def add(self, url: str) -> bool:
        """Add the URL unless an answer could take it for one that is there; whether it was added."""
        key = share_key(url)
        if key in self._keys or self._clashes(url):
            return False
        self._keys.add(key)
        return True

    def _clashes(self, url: str) -> bool:
        """Whether an upload and another URL have the same path, which is all that an answer tells of an upload."""
        if not url.startswith(_OSS):
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
    """Bytes that are not UTF-8 become surrogates: as question marks, all file names in GBK would be equal."""
    if "%" in url:
        data = url.encode("utf-8", "surrogatepass")
        for _ in range(_MAX_PASSES):
            if not _ESCAPE.search(data):
                break
            data = unquote_to_bytes(data)
        url = data.decode("utf-8", "surrogateescape")
    return url.replace("+", " ").replace("\\", "/")


# The files of a task are mostly on one host.
@lru_cache(maxsize=1024)
def _usual_authority(scheme: str, authority: str) -> str:
    if scheme not in _DEFAULT_PORTS:
        return authority
    user, at, place = authority.rpartition("@")
    place = place.lower().removesuffix(":").removesuffix(_DEFAULT_PORTS[scheme]).removesuffix(".")
    if not place.isascii():
        with suppress(UnicodeError):  # no host name: compared as it is
            place = idna.encode(place, uts46=True).decode("ascii")
    return f"{user}{at}{place}"


def _usual_path(path: str) -> str:
    """Without empty and dot segments, as libraries for HTTP send it. No path is that of the root."""
    if "//" not in path and "/." not in path:
        return path or "/"
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in {"", "."}:
            kept.append(segment)
    return "/" + "/".join(kept)
