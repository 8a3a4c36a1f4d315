"""Making the zips of bundles, and the rule that a released version never changes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from custom_components.bundle_configs import BUNDLES, bundle_root
from custom_components.errors import InputError
from custom_components.files import check_writable, file_hash, write_atomically

from .zoo_archive import archive_name, write_archive
from .zoo_contents import Member, check_contents, read_metadata
from .zoo_files import bundle_files
from .zoo_record import MODEL_INFO, Release, read_model_info, sha1_of, write_record

__all__ = ["find_bundles", "pack_bundles"]


def find_bundles(names: str | Sequence[str] | None) -> list[Path]:
    """The folders of bundles given by names or paths (separated by commas), all of the repository by default."""
    if names is None:
        return sorted(path.parent.parent for path in BUNDLES.glob("*/configs/metadata.json"))
    words = names.strip("[] ").split(",") if isinstance(names, str) else names
    return [bundle_root(str(word).strip(" '\"")) for word in words]


def pack_bundles(
    roots: Sequence[Path], output: Path, base_url: str, released: Path, schema: dict[str, Any], overwrite: bool
) -> tuple[list[Release], set[Path]]:
    """Checks all bundles, then makes all zips, then puts them and their records into the output folder.

    A zip's bytes depend on the bundle's contents alone, so its checksum tells whether they changed. A version keeps its
    bytes: those that ``released`` has for it, always; those of an earlier build in the output, unless told otherwise.

    Args:
        roots: the bundles' folders.
        output: folder of zips and records, made where absent.
        base_url: where the zips will be published.
        released: ``model_info.json`` of what was published; need not exist.
        schema: JSON schema of the metadata.
        overwrite: replace zips of the output that have the same version and other contents.

    Returns:
        The zips, and the paths of those that were there already.

    Raises:
        InputError: for the first thing that is wrong with a bundle, or a version with changed contents. Nothing is
            written then.
    """
    check_writable(output)
    records = {path: read_model_info(path) for path in (released, output / MODEL_INFO)}
    with tempfile.TemporaryDirectory() as folder:
        built: list[Release] = []
        for root in tqdm(roots, desc="bundles", delay=10):
            release = _build(root, Path(folder), schema)
            key, target = release.path.stem, output / release.path.name
            for path, record in records.items():
                fixed = path == released or not overwrite
                if fixed and key in record and record[key]["checksum"] != sha1_of(release.path):
                    raise _changed(key, f"in {path}")
            if target.exists() and not overwrite and file_hash(target) != file_hash(release.path):
                raise _changed(key, f"of {target}")
            built.append(release)
        return _publish(built, output, base_url)


def _build(root: Path, folder: Path, schema: dict[str, Any]) -> Release:
    """Checks a bundle and makes its zip in a folder."""
    files = bundle_files(root)
    members = {name: Member(path.stat().st_size, path.read_bytes) for name, path in files.items()}
    for sentence in check_contents(members, root.name, schema=schema):
        raise InputError(f"bundle {root.name}: {sentence}")
    version = read_metadata(members)["version"]
    release = Release(root.name, version, folder / archive_name(root.name, version))
    if release.path.exists():
        raise InputError(f"bundle {root.name} was given twice.")
    write_archive(release.path, root.name, files)
    return release


def _changed(key: str, where: str) -> InputError:
    return InputError(
        f"{key} has other contents than the one {where}: "
        "raise the version in the bundle's configs/metadata.json and tell in its changelog what changed."
    )


def _publish(built: Sequence[Release], output: Path, base_url: str) -> tuple[list[Release], set[Path]]:
    """Moves zips to the output, those apart that are there already, and records them all."""
    output.mkdir(parents=True, exist_ok=True)
    releases, unchanged = [], set()
    for release in built:
        target = output / release.path.name
        if target.exists() and file_hash(target) == file_hash(release.path):
            unchanged.add(target)
        else:
            write_atomically(target, lambda path, zipped=release.path: path.write_bytes(zipped.read_bytes()))
        releases.append(Release(release.name, release.version, target))
    write_record(output, releases, base_url)
    return releases, unchanged
