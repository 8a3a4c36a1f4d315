"""Zips of bundles: written to the same bytes every time, and looked through without unpacking anything."""

from __future__ import annotations

import re
import stat
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

__all__ = ["ARCHIVE_NAME", "archive_name", "unsafe_members", "write_archive"]

ARCHIVE_NAME = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_-]*?)(_v(?P<version>\d[\w.+-]*))?\.zip")
TIME = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold


def archive_name(name: str, version: str) -> str:
    """The model zoo's name for the zip of a bundle's version."""
    return f"{name}_v{version}.zip"


def write_archive(path: Path, name: str, files: Mapping[str, Path]) -> None:
    """Writes a zip of ``NAME/<member>``, whose bytes depend on the names and contents of the files alone.

    Members are sorted, of one time and mode, and stored as they are: compressed bytes differ between versions of zlib,
    and weights and pictures hardly shrink.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for member in sorted(files):
            info = zipfile.ZipInfo(f"{name}/{member}", TIME)
            info.create_system = 3  # Unix, wherever the zip is written
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, files[member].read_bytes())


def unsafe_members(archive: zipfile.ZipFile) -> list[str]:
    """A sentence for each member that could be written elsewhere than where it seems, or twice, or that is no file."""
    members = archive.infolist()
    count = Counter(info.orig_filename.rstrip("/").casefold() for info in members)
    folders = {
        str(folder).casefold() for info in members for folder in PurePosixPath(info.orig_filename.rstrip("/")).parents
    }
    found = []
    for info in members:
        # What zipfile makes of a name (cut at a zero byte, say) may look harmless where the name is not.
        name = info.orig_filename
        kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
        if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
            found.append(f"holds {name!r}, an absolute path.")
        elif ".." in PurePosixPath(name.replace("\\", "/")).parts:
            found.append(f"holds {name!r}, a path that leads out of its folder.")
        elif "\\" in name or not name.isprintable():
            found.append(f"holds {name!r}, a name with characters that systems read in different ways.")
        elif kind == stat.S_IFLNK:
            found.append(f"holds {name!r}, a link.")
        elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            found.append(f"holds {name!r}, which is neither file nor folder.")
        elif info.flag_bits & 0x1:
            found.append(f"holds {name!r}, which is encrypted.")
        elif not name.endswith("/") and name.casefold() in folders:
            found.append(f"holds {name!r} as a file, and other files in a folder of that name.")
        elif count[name.rstrip("/").casefold()] > 1:
            found.append(f"holds {name!r} more than once.")
            count[name.rstrip("/").casefold()] = 0
    return found
