"""What a zoo records of its zips: ``model_info.json`` in the form of MONAI's model zoo, and ``SHA256SUMS``."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from custom_components.errors import InputError, first_line
from custom_components.files import file_hash, write_atomically

from .zoo_archive import ARCHIVE_NAME

__all__ = ["MODEL_INFO", "SUMS", "Release", "compare", "list_releases", "read_model_info", "read_sums", "sha1_of"]
__all__ += ["version_order", "write_record"]

MODEL_INFO = "model_info.json"
SUMS = "SHA256SUMS"


@dataclass(frozen=True)
class Release:
    """The zip of a bundle's version in a zoo's folder."""

    name: str
    version: str
    path: Path


def version_order(version: str) -> tuple[int, ...]:
    """Sorts versions by their numbers: 0.10.0 after 0.9.0."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


def list_releases(folder: Path) -> list[Release]:
    """The zips ``NAME_vVERSION.zip`` of a folder by name and version."""
    matches = [(ARCHIVE_NAME.fullmatch(path.name), path) for path in folder.glob("*.zip")]
    found = [Release(match["name"], match["version"], path) for match, path in matches if match and match["version"]]
    return sorted(found, key=lambda release: (release.name, version_order(release.version), release.version))


def sha1_of(path: Path) -> str:
    """The checksum that ``model_info.json`` holds; it guards against damage, ``SHA256SUMS`` against forgery too."""
    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()


def read_model_info(path: Path) -> dict[str, dict[str, str]]:
    """``{"NAME_vVERSION": {"checksum": SHA-1 of the zip, "source": its URL}}``, empty where there is no file.

    Raises:
        InputError: where it has another form.
    """
    if not path.is_file():
        return {}
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path}: {first_line(error)}.") from error
    entries = info.values() if isinstance(info, dict) else [None]
    if not all(isinstance(entry, dict) and isinstance(entry.get("checksum"), str) for entry in entries):
        raise InputError(f"{path} is no record of a zoo: each of its entries must have a checksum.")
    return info


def read_sums(path: Path) -> dict[str, str]:
    """SHA-256 by file name, empty where there is no file.

    Raises:
        InputError: naming the first line of another form.
    """
    sums: dict[str, str] = {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, 1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *]([^/\\]+)", line)
        if match is None:
            raise InputError(f"{path}: line {number} is not a SHA-256 and a file name.")
        sums[match[2]] = match[1]
    return sums


def write_record(folder: Path, written: list[Release], base_url: str) -> None:
    """Adds zips to a zoo's records; what they say of other zips stays.

    Args:
        folder: the zoo's folder.
        written: the zips to add.
        base_url: where the zips will be; empty keeps the sources recorded, or gives ones relative to the record.
    """
    info, sums = read_model_info(folder / MODEL_INFO), read_sums(folder / SUMS)
    for release in written:
        known = info.get(release.path.stem, {}).get("source", release.path.name)
        source = f"{base_url.rstrip('/')}/{release.path.name}" if base_url else known
        info[release.path.stem] = {"checksum": sha1_of(release.path), "source": source}
        sums[release.path.name] = file_hash(release.path)
    text = json.dumps(info, indent=4, sort_keys=True) + "\n"
    write_atomically(folder / MODEL_INFO, lambda path: path.write_text(text, encoding="utf-8"))
    lines = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    write_atomically(folder / SUMS, lambda path: path.write_text(lines, encoding="utf-8"))


def compare(path: Path, name: str, info: Mapping[str, Mapping[str, str]], sums: Mapping[str, str]) -> list[str]:
    """Sentences on where a zip, called ``name`` in the records, is not as they say; empty records say nothing."""
    found = []
    if sums and name not in sums:
        found.append(f"is not in {SUMS}.")
    elif sums and sums[name] != file_hash(path):
        found.append(f"is not the file of {SUMS}: its SHA-256 is another one.")
    key = name.removesuffix(".zip")
    if info and key not in info:
        found.append(f"is not in {MODEL_INFO}.")
    elif info and info[key]["checksum"] != sha1_of(path):
        found.append(f"is not the file of {MODEL_INFO}: its checksum is another one.")
    return found
