"""Finding a bundle and the configs of its workflows, and checking overrides that MONAI would silently accept."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from .errors import InputError, first_line

__all__ = ["BUNDLES", "WORKFLOWS", "as_overlays", "as_overrides", "bundle_root", "check_overrides", "config_files"]

BUNDLES = Path(__file__).resolve().parent.parent / "bundles"
WORKFLOWS = {
    "training": ["train.json"],
    "inference": ["inference.json"],
    "evaluate": ["train.json", "evaluate.json"],
}
# Options of monai.bundle.run itself, which are not config keys.
RUN_OPTIONS = ("run_id", "init_id", "final_id", "meta_file", "logging_file", "tracking", "args_file")


def bundle_root(bundle: str | Path) -> Path:
    """The folder of a bundle given by name or path.

    Raises:
        InputError: where there is none.
    """
    for root in (Path(bundle), BUNDLES / bundle):
        if (root / "configs").is_dir():
            return root.resolve()
    raise InputError(f"bundle {bundle} is neither a bundle's folder nor one of {_names(BUNDLES)}.")


def _names(folder: Path) -> str:
    return ", ".join(sorted(p.name for p in folder.iterdir() if (p / "configs").is_dir())) if folder.is_dir() else ""


def config_files(root: Path, workflow: str, overlays: str | Sequence[str] = ()) -> list[str]:
    """The configs of a workflow: its own, then overlays by name (from the bundle's ``configs/``) or path.

    Raises:
        InputError: for an unknown workflow or overlay.
    """
    if workflow not in WORKFLOWS:
        raise InputError(f"workflow must be one of {', '.join(WORKFLOWS)}, got {workflow!r}.")
    files = [root / "configs" / name for name in WORKFLOWS[workflow]]
    for overlay in as_overlays(overlays):
        candidates = [Path(overlay), root / "configs" / overlay, root / "configs" / f"{overlay}.json"]
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            raise InputError(f"config {overlay} is neither a file nor one of {root / 'configs'}.")
        files.append(found)
    return [str(path) for path in files]


def as_overlays(typed: str | Sequence[str]) -> list[str]:
    """Overlays as a list: fire leaves one that holds a path as it was typed."""
    if isinstance(typed, str):
        return [part.strip(" '\"") for part in typed.strip("[] ").split(",") if part.strip()]
    return [str(overlay) for overlay in typed]


def check_overrides(files: Sequence[str], overrides: Mapping[str, Any]) -> None:
    """MONAI accepts any unknown top-level key without a word; a typo would change nothing and be noticed late.

    Raises:
        InputError: naming the first key that the configs do not have, and the one that was probably meant; or a
            device that is none, or not there.
    """
    parser = ConfigParser()
    parser.read_config(list(files))
    if isinstance(overrides.get("device"), str):
        _check_device(overrides["device"])
    for key in overrides:
        if key not in RUN_OPTIONS and key.replace("#", "::") not in parser:
            close = difflib.get_close_matches(key.replace("::", "#"), _ids(parser.get()), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise InputError(f"the configs have no key {key!r}{hint}")


def _check_device(name: str) -> None:
    """Raises InputError for a word that is no device, or one that PyTorch cannot use here."""
    if name.startswith("$"):  # an expression of the config's own
        return
    try:
        torch.empty(0, device=torch.device(name))
    except (RuntimeError, AssertionError) as error:  # the latter where PyTorch was built without it
        raise InputError(f"device {name!r} cannot be used here: {first_line(error)}") from error


def _ids(content: Any, prefix: str = "") -> list[str]:
    """The ids of everything in a config: a, a#b, ..."""
    if not isinstance(content, dict):
        return []
    ids = []
    for key, value in content.items():
        ids += [prefix + key, *_ids(value, f"{prefix}{key}#")]
    return ids


def as_overrides(words: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides as fire passes them on: it reads only True and False as flags, not true and false, in lists too."""
    return {key: _with_flags(value) for key, value in words.items()}


def _with_flags(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_with_flags(entry) for entry in value)
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value
