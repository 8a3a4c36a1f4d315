"""Is a zip, a zoo of zips or an unpacked bundle what its records say, and safe to unpack and to load?"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from custom_components.errors import InputError
from custom_components.synthesis.verification import Finding

from .zoo_archive import ARCHIVE_NAME, archive_name, unsafe_members
from .zoo_contents import MAX_BYTES, Member, check_contents, read_metadata
from .zoo_record import MODEL_INFO, SUMS, compare, read_model_info, read_sums

__all__ = ["has_record", "verify_archive", "verify_bundle", "verify_zoo"]

MAX_TOTAL = 2**30
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)


def has_record(folder: Path) -> bool:
    """Whether a folder holds sums or checksums of zips."""
    return any((folder / name).is_file() for name in (MODEL_INFO, SUMS))


def verify_zoo(folder: Path, schema: Mapping[str, Any], progress: bool = True) -> list[Finding]:
    """Checks every zip of a folder, and that every recorded zip is there.

    Raises:
        InputError: where there are neither zips nor records, or the records cannot be read.
    """
    info, sums = read_model_info(folder / MODEL_INFO), read_sums(folder / SUMS)
    names = sorted({path.name for path in folder.glob("*.zip")} | {*sums, *(f"{key}.zip" for key in info)})
    if not names:
        raise InputError(f"{folder} holds neither a bundle nor zips of bundles.")
    found = []
    for name in tqdm(names, desc="zips", delay=10, disable=not progress):
        if (folder / name).is_file():
            found += verify_archive(folder / name, schema)
        else:
            found.append(Finding(name, "is recorded, but missing."))
    return found


def verify_archive(path: Path, schema: Mapping[str, Any]) -> list[Finding]:
    """Checks a zip against the records beside it, then its members, then what they hold. Nothing is unpacked or run.

    Raises:
        InputError: where the records cannot be read.
    """
    info, sums = read_model_info(path.parent / MODEL_INFO), read_sums(path.parent / SUMS)
    contents, recorded_as = _check_archive(path, schema)
    return [Finding(path.name, sentence) for sentence in (*compare(path, recorded_as, info, sums), *contents)]


def _check_archive(path: Path, schema: Mapping[str, Any]) -> tuple[list[str], str]:
    """What is wrong within a zip, and the name that it must have in the records."""
    try:
        archive = zipfile.ZipFile(path)
    except DAMAGED:
        return ["is damaged: it is no complete zip."], path.name
    with archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        # Weights are zips themselves: cut off behind them, the whole passes for the weights with something before them.
        if not infos or min(info.header_offset for info in archive.infolist()) > 0:
            return ["is damaged: it is no complete zip."], path.name
        unsafe = unsafe_members(archive)
        if sum(info.file_size for info in infos) > MAX_TOTAL:
            unsafe.append(f"unpacks to more than {MAX_TOTAL >> 20} MB.")
        if unsafe:  # nothing is read from a zip made to harm
            return unsafe, path.name
        try:
            for info in infos:
                if info.file_size <= MAX_BYTES:
                    archive.read(info)  # compares its check sum
        except DAMAGED:
            return [f"is damaged: {info.filename} cannot be read from it."], path.name
        folders = sorted({info.filename.split("/")[0] if "/" in info.filename else "" for info in infos})
        if len(folders) != 1 or not folders[0]:
            return ["must hold one folder with the bundle in it."], path.name
        members = {info.filename.split("/", 1)[1]: _member(archive, info) for info in infos}
        return _check_members(path, folders[0], members, schema)


def _check_members(
    path: Path, name: str, members: Mapping[str, Member], schema: Mapping[str, Any]
) -> tuple[list[str], str]:
    match = ARCHIVE_NAME.fullmatch(path.name)
    version = match["version"] if match else None
    found = check_contents(members, name, version, schema)
    # MONAI saves what it downloads as NAME.zip, whatever the version.
    if match is None or match["name"] != name:
        found.append(f"must be called {name}_vVERSION.zip or {name}.zip, after the bundle in it.")
    return found, archive_name(name, version or str(read_metadata(members).get("version")))


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    return Member(info.file_size, lambda: archive.read(info))


def verify_bundle(folder: Path, schema: Mapping[str, Any]) -> list[Finding]:
    """Checks a bundle that was unpacked: what it holds, and that it has no links. Nothing of it is run."""
    found, members = [], {}
    for place, folders, files in os.walk(folder):
        for path in (Path(place) / name for name in sorted((*folders, *files))):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink():
                found.append(f"{name} is a link, which a packed bundle never holds.")
            elif path.is_file() and "__pycache__" not in path.parts:
                members[name] = Member(path.stat().st_size, path.read_bytes)
    if not found:  # without what a link leads to, nothing can be said about the rest
        name, _, version = folder.resolve().name.partition("_v")
        found = check_contents(members, name, version or None, schema)
    return [Finding(folder.name, sentence) for sentence in found]
