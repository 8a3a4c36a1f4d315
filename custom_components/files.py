"""Files that appear whole or not at all, what identifies them, and folders that one process at a time works in."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import InputError, as_flag

__all__ = ["check_free", "check_writable", "file_hash", "lock_folder", "write_atomically"]


def write_atomically(path: str | Path, write: Callable[[Path], Any]) -> None:
    """Calls ``write(temporary)`` in the target's folder and renames the result to ``path``.

    The temporary name keeps the target's suffixes, since writers choose a format by them.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".partial-{os.getpid()}-{threading.get_ident()}-{path.name}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, or of a folder's files in the order of their names."""
    digest = hashlib.sha256()
    files = sorted(p for p in Path(path).iterdir() if p.is_file()) if Path(path).is_dir() else [Path(path)]
    for file in files:
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def check_writable(folder: str | Path) -> None:
    """Raises InputError where files cannot be written into a folder (or created with it)."""
    folder = Path(folder).absolute()
    existing = folder
    while not existing.exists():
        existing = existing.parent
    try:  # what permissions say is not all: a file system may be full or refuse even a superuser
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise InputError(f"output_dir {folder} is not a folder that can be written to.") from error


def check_free(path: Path, overwrite: bool) -> None:
    """Raises InputError where a file must not be replaced, or its folder cannot be written to."""
    if path.exists() and not as_flag(overwrite, "overwrite"):
        raise InputError(f"output {path} exists: pass overwrite to replace it, or another output.")
    check_writable(path.parent)


@contextmanager
def lock_folder(folder: str | Path) -> Iterator[int | None]:
    """Makes a folder and keeps a second process out of it, also while a command lives on whose parent was killed.

    The lock is on the folder itself and leaves no file.

    Yields:
        A file descriptor for commands to inherit; None where the system or the file system has no such locks.

    Raises:
        InputError: where another process is at work, or the folder cannot be written to.
    """
    check_writable(folder)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        yield None
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        except BlockingIOError:
            raise InputError(f"another process is still at work in {folder}.") from None
        except OSError:  # some network file systems
            locked = False
        yield descriptor if locked else None
    finally:
        os.close(descriptor)
