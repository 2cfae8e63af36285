"""The recordings and the formats that a command line names, and the names of the files to write."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from app.errors import GatewayError

# The path below a transcript, and the extension of the file that is written.
FORMATS = {
    "text": ("/text", "txt"),
    "srt": ("/srt", "srt"),
    "vtt": ("/vtt", "vtt"),
    "json": ("", "json"),
    "md": ("/markdown", "md"),
}
_URL = re.compile(r"(?:https?|oss|upload)://", re.IGNORECASE)
# Not allowed in file names of Windows, and control characters.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*]')
# File systems allow 255 bytes; an extension and a number follow.
_MAX_STEM_BYTES = 200


class TranscribeError(GatewayError):
    """A file, or the whole command, cannot go on. The detail is the reason, in one line."""


@dataclass(frozen=True, slots=True)
class Recording:
    """An argument of the command: a local file, or the URL of a recording. `label` is unique among them."""

    argument: str
    label: str
    path: Path | None


def read_arguments(arguments: Sequence[str]) -> list[Recording]:
    """An argument that is given twice is one recording."""
    unique = list(dict.fromkeys(readable(each) if _URL.match(each) else each for each in arguments))
    names = [_name(argument) for argument in unique]
    return [
        Recording(
            argument,
            # Two recordings with one name are told apart by what was typed, without the signature of a URL.
            name if names.count(name) == 1 else argument.partition("?")[0],
            None if _URL.match(argument) else Path(argument),
        )
        for argument, name in zip(unique, names, strict=True)
    ]


def read_formats(value: str) -> list[str]:
    """The names in `text,srt`. Raises TranscribeError."""
    names = list(dict.fromkeys(name.strip().lower() for name in value.split(",") if name.strip()))
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        raise TranscribeError(f"--format got {value!r}, needs one or more of {','.join(FORMATS)}")
    return names


def check_file(path: Path) -> None:
    """Raises TranscribeError for a file that cannot be read, before anything is uploaded."""
    try:
        if path.is_dir():
            raise TranscribeError("is a folder; name the files in it")
        with path.open("rb") as file:
            if not file.read(1):
                raise TranscribeError("is empty")
    except FileNotFoundError:
        raise TranscribeError("does not exist") from None
    except OSError as error:
        raise TranscribeError(f"cannot be read: {error.strerror}") from error


def output_paths(recordings: Iterable[Recording], formats: Sequence[str], folder: Path) -> dict[str, dict[str, Path]]:
    """The files of each recording, by its argument and the format: `call.wav` becomes `call.srt`.

    Recordings with one name get numbers: `call.srt`, `call-2.srt`. Names that differ in case alone count as one.
    """
    taken: set[str] = set()
    paths = {}
    for recording in recordings:
        first = _stem(recording)
        stem, number = first, 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{first}-{number}"
        taken.add(stem.casefold())
        paths[recording.argument] = {name: folder / f"{stem}.{FORMATS[name][1]}" for name in formats}
    return paths


def refuse_existing(paths: dict[str, dict[str, Path]]) -> None:
    """Raises TranscribeError for the first file that exists: it is not overwritten."""
    for path in (path for each in paths.values() for path in each.values()):
        if path.exists() or path.is_symlink():
            raise TranscribeError(f"{path} exists and is not overwritten; move it, or choose another --output")


def readable(argument: str) -> str:
    """The argument with U+FFFD for bytes that are not UTF-8, such as a file name in GBK. JSON and forms need UTF-8."""
    return os.fsencode(argument).decode(errors="replace")


def _name(argument: str) -> str:
    """The name of the file, also if the argument is a URL. The gateway refuses a URL that is not valid."""
    argument = readable(argument)
    if not (scheme := _URL.match(argument)):
        return argument.rstrip("/").rpartition("/")[2] or argument
    host, _, path = re.split("[?#]", argument[scheme.end() :], maxsplit=1)[0].partition("/")
    return unquote(path).rstrip("/").rpartition("/")[2] or host


def _stem(recording: Recording) -> str:
    name = _UNSAFE.sub("_", _name(recording.argument))
    stem = Path(name).stem.strip(" .") or "transcript"
    return stem.encode()[:_MAX_STEM_BYTES].decode(errors="ignore")
