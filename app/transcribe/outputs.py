"""Writes transcripts to files that are complete or absent, and never replaces a file."""

import os
import tempfile
from pathlib import Path

from app.transcribe.inputs import TranscribeError


def prepare_folder(folder: Path) -> None:
    """Make the folder, and check that files can be made in it. Raises TranscribeError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise TranscribeError(
            f"--output got {str(folder)!r}, needs a folder for new files: {error.strerror}"
        ) from error


def write_new(path: Path, content: bytes) -> None:
    """Write a new file. Raises TranscribeError if there is one, or if it cannot be written; then nothing is left."""
    draft = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".transcribe-", delete=False) as file:
            draft = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(0o666 & ~_umask())
        _publish(draft, path)
    except FileExistsError:
        raise TranscribeError(f"{path} exists and is not overwritten") from None
    except OSError as error:
        raise TranscribeError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)


def _publish(draft: Path, path: Path) -> None:
    """A link is made only if the name is free. File systems without links get the check and a rename."""
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        raise
    except OSError:
        if path.exists():
            raise FileExistsError from None
        draft.rename(path)


def _umask() -> int:
    """The mask can be read only by setting it. The command has no other thread that makes files."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
