"""The cases that a bundle's training learns from, read and normalised as it reads them, for what is fitted on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from custom_components.bundle_configs import bundle_root, config_files
from custom_components.datasets import list_cases
from custom_components.errors import InputError

Cases = Sequence[dict[str, Any]]


def training_config(bundle: str, overlays: str | Sequence[str] = ()) -> ConfigParser:
    """A bundle's training config, not yet resolved, with overlays over it.

    Raises:
        InputError: for an unknown bundle or overlay, or one without a training.
    """
    root = bundle_root(bundle)
    if not (root / "configs" / "train.json").is_file():
        raise InputError(f"bundle {bundle} has no configs/train.json.")
    parser = ConfigParser()
    parser.read_config(config_files(root, "training", overlays))
    return parser


def split_cases(
    parser: ConfigParser, dataset_dir: str, val_fraction: float | None = None
) -> tuple[Mapping[str, Cases], str]:
    """The ``training`` and ``validation`` cases of a data set as the training splits them, and a line that tells them.

    Args:
        parser: a training config; gets ``dataset_dir``, and ``val_fraction`` where it is given.
        dataset_dir: as :func:`~custom_components.datasets.list_cases` takes it.
        val_fraction: share of patients held out; the config's own patients or share by default.

    Raises:
        InputError: where there are no cases, or none for a part.
    """
    if val_fraction is not None:
        parser["val_fraction"], parser["val_patients"] = val_fraction, None
    parser["dataset_dir"] = str(dataset_dir)
    list_cases(dataset_dir)
    split = {
        part: parser.get_parsed_content(f"{section}#dataset#data")
        for part, section in (("training", "train"), ("validation", "validate"))
    }
    source = Path(dataset_dir).resolve()
    source = source if source.is_dir() else source.parent
    held_out = f"val_fraction {parser['val_fraction']}"
    if parser.get("val_patients"):
        held_out = f"without {', '.join(parser['val_patients'])}"
    window = parser.get("hu_window")
    return split, f"training part of {source.name}, {held_out}" + (f", HU window {[*window]}" if window else "")


def read_item(case: dict[str, Any], transform: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """A case with its ``image`` and ``label`` read by the training's transforms; InputError where it cannot be."""
    try:
        return transform(case)
    except Exception as error:
        reason = str(error.__cause__ or error).splitlines()[0]  # MONAI wraps what its transforms raise
        raise InputError(f"cannot read case {case['case']}: {reason}") from error
