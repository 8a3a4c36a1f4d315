"""A case made again from its records."""

from __future__ import annotations

from pathlib import Path

from ...errors import InputError
from ...files import file_hash
from ..records import read_manifest, read_sidecar
from .findings import Finding

__all__ = ["check_replay"]

COMPARED = ("image", "label", "instances")
TOLD = ("lesions", "synthesis")


def check_replay(
    root: str | Path, case: str, output_dir: str | Path, source: str | Path | None = None
) -> list[Finding]:
    """Makes a case again and compares image, label map and instances byte for byte, and what sidecars tell of lesions.

    The bytes are the same on the same hardware with the same versions of the libraries, which the sidecar names.

    Args:
        root: folder of the set.
        case: its name.
        output_dir: empty folder, in which the case is made.
        source: the input that the set was made from, where it lies elsewhere now.

    Raises:
        InputError: for an unknown case, a sidecar that cannot be read, and where the case cannot be made again.
    """
    from ..runner import replay_case  # brings the networks with it, which no other check needs

    root = Path(str(root))
    record = next((record for record in read_manifest(root) if record["case"] == case), None)
    if record is None:
        raise InputError(f"{root} has no case {case!r}.")
    made = replay_case(root, case, output_dir, source)
    found = [
        Finding(record["files"][role], "is another file than the one that is made again.", case)
        for role in COMPARED
        if not (root / record["files"][role]).is_file()
        or file_hash(made[role]) != file_hash(root / record["files"][role])
    ]
    sidecars = [read_sidecar(path) for path in (made["sidecar"], root / record["files"]["sidecar"])]
    differing = [key for key in TOLD if sidecars[0].get(key) != sidecars[1].get(key)]
    if differing:
        sentence = f"tells something else of {' and '.join(differing)} than the one that is made again."
        found.append(Finding(record["files"]["sidecar"], sentence, case))
    return found
