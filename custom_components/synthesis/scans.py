"""The scans to paint into, wherever and in whatever form they lie, and the organ masks that belong to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..datasets import SCAN_SUFFIXES, case_name, list_cases
from ..errors import InputError

__all__ = ["SourceScan", "find_organs", "find_scans"]

DICOM_SUFFIXES = (".dcm", ".ima")
SNIFFED = 16  # files of a folder that are looked into before it is taken to hold no DICOM


@dataclass(frozen=True)
class SourceScan:
    """One scan of the input.

    Attributes:
        name: its cases' names begin with it.
        image: NIfTI file or folder with a DICOM series.
        relative: its path relative to the input folder, with slashes.
        label: its label map, where the input is a data set that has one.
        organ: its organ mask, where one is given.
    """

    name: str
    image: str
    relative: str
    label: str | None = None
    organ: str | None = None


def find_scans(source: str | Path, labelled: bool = False) -> list[SourceScan]:
    """The scans of the input, sorted by name.

    Args:
        source: a scan; a data set (``images/``, perhaps with ``labels/``, or a ``datalist.json``, see
            :func:`~custom_components.datasets.list_cases`); or a folder at any depth of which NIfTI files or folders
            with a DICOM series lie.
        labelled: whether every scan needs a label map.

    Raises:
        InputError: where nothing is found, two scans share a name, or a label is missing.
    """
    root = Path(source)
    if not root.exists():
        raise InputError(f"input {root} does not exist.")
    if _is_data_set(root):
        base = root if root.is_dir() else root.parent
        cases = list_cases(root, labelled)
        scans = [
            SourceScan(
                _joined(case.get("group"), case["case"]),
                case["image"],
                _relative(case["image"], base),
                case.get("label"),
            )
            for case in cases
        ]
    elif labelled:
        raise InputError(
            f"input {root} has no label maps: it is neither a folder with images/ and labels/ nor a datalist."
        )
    elif root.is_file() or _holds_dicom(root):
        scans = [SourceScan(case_name(root), str(root), root.name)]
    else:
        found = [(path, path.relative_to(root)) for path in _walk(root)]
        scans = [SourceScan("_".join((*r.parts[:-1], case_name(r))), str(p), r.as_posix()) for p, r in found]
    if not scans:
        raise InputError(f"input {root} holds neither NIfTI files nor DICOM series.")
    names = [scan.name for scan in scans]
    if len(set(names)) < len(names):
        twice = sorted(name for name in names if names.count(name) > 1)[0]
        raise InputError(f"two scans of {root} are named {twice!r}; their outputs would share a name.")
    return sorted(scans, key=lambda scan: scan.name)


def find_organs(scans: Sequence[SourceScan], organ_mask: str | Path, role: str = "organ_mask") -> dict[str, str]:
    """The organ mask of each scan by the scan's name; a scan that has none is not among them.

    Args:
        scans: what :func:`find_scans` found.
        organ_mask: a file, for a single scan; or a folder with files named as the scans, or lying as the scans do.
        role: what the masks are called in messages.

    Raises:
        InputError: where nothing is there, or one file is given for several scans.
    """
    root = Path(organ_mask)
    if not root.exists():
        raise InputError(f"{role} {root} does not exist.")
    if root.is_file():
        if len(scans) > 1:
            raise InputError(f"{role} {root} is one file, but the input holds {len(scans)} scans: give a folder.")
        return {scans[0].name: str(root)}
    found = {}
    for scan in scans:
        stem = Path(scan.relative).parent / case_name(scan.relative)
        places = [
            root / f"{name}{suffix}" for name in (scan.name, stem.as_posix(), stem.name) for suffix in SCAN_SUFFIXES
        ]
        organ = next((place for place in places if place.is_file()), None)
        if organ is not None:
            found[scan.name] = str(organ)
    if not found:
        raise InputError(f"{role} {root} holds no file named as a scan, such as {scans[0].name}.nii.gz.")
    return found


def _is_data_set(root: Path) -> bool:
    if root.is_file():
        return root.suffix == ".json"
    return (root / "datalist.json").is_file() or (root / "images").is_dir() or any(root.glob("*/images"))


def _walk(folder: Path) -> Iterator[Path]:
    """NIfTI files and folders with a DICOM series, in the order of their names; hidden ones are passed over."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_file() and path.name.endswith(SCAN_SUFFIXES):
            yield path
        elif path.is_dir():
            if _holds_dicom(path):
                yield path
            else:
                yield from _walk(path)


def _holds_dicom(folder: Path) -> bool:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if any(path.name.lower().endswith(DICOM_SUFFIXES) for path in files):
        return True
    for path in files[:SNIFFED]:
        with open(path, "rb") as stream:
            stream.seek(128)
            if stream.read(4) == b"DICM":
                return True
    return False


def _joined(group: str | None, name: str) -> str:
    return name if group is None else f"{group}_{name}"


def _relative(path: str | Path, base: Path) -> str:
    path = Path(path)
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()
