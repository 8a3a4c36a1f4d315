"""Runs a bundle's workflow through ``monai.bundle.run``, after checking what MONAI would silently accept."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import monai.bundle
from monai.bundle import ConfigParser

from custom_components.errors import InputError

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
    if isinstance(overlays, str):  # fire leaves a list that holds a path as it was typed
        overlays = [part.strip(" '\"") for part in overlays.strip("[] ").split(",") if part.strip()]
    for overlay in overlays:
        candidates = [Path(overlay), root / "configs" / overlay, root / "configs" / f"{overlay}.json"]
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            raise InputError(f"config {overlay} is neither a file nor one of {root / 'configs'}.")
        files.append(found)
    return [str(path) for path in files]


def check_overrides(files: Sequence[str], overrides: dict[str, Any]) -> None:
    """MONAI accepts any unknown top-level key without a word; a typo would change nothing and be noticed late.

    Raises:
        InputError: naming the first key that the configs do not have, and the one that was probably meant.
    """
    parser = ConfigParser()
    parser.read_config(list(files))
    for key in overrides:
        if key not in RUN_OPTIONS and key.replace("#", "::") not in parser:
            close = difflib.get_close_matches(key.replace("::", "#"), _ids(parser.get()), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise InputError(f"the configs have no key {key!r}{hint}")


def _ids(content: Any, prefix: str = "") -> list[str]:
    """The ids of everything in a config: a, a#b, ..."""
    if not isinstance(content, dict):
        return []
    ids = []
    for key, value in content.items():
        ids += [prefix + key, *_ids(value, f"{prefix}{key}#")]
    return ids


def run(
    workflow: str = "inference",
    bundle: str = "lefusion_lidc",
    config: str | Sequence[str] = (),
    **overrides: Any,
) -> None:
    """Run a bundle's workflow: training, inference or evaluate.

    Args:
        workflow: training, inference or evaluate.
        bundle: a bundle's name or folder.
        config: overlays merged over the workflow's config, by name or path: train_cpu, or train_cpu,diffused.
        overrides: any key of the configs, e.g. --dataset_dir DATA --max_epochs 10 --network_def#channels [16,32].

    Raises:
        InputError: for an unknown workflow, bundle, overlay or key, and for whatever the bundle finds wrong.
    """
    root = bundle_root(bundle)
    files = config_files(root, workflow, config)
    words = {"true": True, "false": False}  # fire reads only True and False as flags
    overrides = {key: words.get(value, value) if isinstance(value, str) else value for key, value in overrides.items()}
    overrides.setdefault("bundle_root", str(root))
    check_overrides(files, overrides)
    monai.bundle.run(config_file=files, **overrides)


def generate(
    image: str,
    mask: str,
    output_dir: str,
    texture: Any = "random",
    seed: int = 0,
    bundle: str = "lefusion_lidc",
    config: str | Sequence[str] = (),
    **overrides: Any,
) -> None:
    """Paint a lesion into every connected component of MASK in IMAGE and write the results to OUTPUT_DIR.

    Args:
        image: a scan: NIfTI, or a folder with one DICOM series.
        mask: its lesion mask, NIfTI on the same grid, 0 and 1.
        output_dir: where <case>_lefusion.nii.gz, _mask.nii.gz, _panel.png and _lefusion.json go.
        texture: ground_glass, part_solid, solid, random, none, 16 numbers, or a list with one of these per lesion.
        seed: run seed; the same seed gives the same lesions.
        bundle: a bundle's name or folder.
        config: overlay(s), see ``lefusion run``.
        overrides: any key of the bundle's inference config, e.g. --num_inference_steps 25 --overwrite true.
    """
    run(
        "inference",
        bundle,
        config,
        image=str(image),
        mask=str(mask),
        output_dir=str(output_dir),
        texture=texture,
        seed=seed,
        **overrides,
    )


def draw_masks(
    output_dir: str,
    image: str | None = None,
    organ: str | None = None,
    spheres: Any = None,
    samples: int = 1,
    seed: int = 0,
    bundle: str = "diffmask",
    config: str | Sequence[str] = (),
    **overrides: Any,
) -> None:
    """Draw lesion masks of the size and place you ask for and write the results to OUTPUT_DIR.

    Args:
        output_dir: where <case>_mask_1.nii.gz, ..., <case>_masks.png and <case>_masks.json go.
        image: a scan, NIfTI or a folder with one DICOM series, whose grid the masks take; the organ's grid without it.
        organ: its organ's mask, NIfTI on the same grid: no lesion leaves it.
        spheres: [[x, y, z, radius_mm], ...], x, y, z in scanner coordinates (mm); --coordinates voxel reads them as
            voxel indices. Without spheres, --num_random of them are placed inside the organ.
        samples: masks drawn for each sphere, in a file each.
        seed: run seed; the same seed gives the same masks.
        bundle: a bundle's name or folder.
        config: overlay(s), see ``lefusion run``.
        overrides: any key of the bundle's inference config, e.g. --grid [64,64,32] for a bare grid.
    """
    paths = {key: str(value) for key, value in (("image", image), ("organ", organ)) if value is not None}
    run(
        "inference",
        bundle,
        config,
        output_dir=str(output_dir),
        spheres=spheres,
        samples=samples,
        seed=seed,
        **paths,
        **overrides,
    )


if __name__ == "__main__":
    import fire

    fire.Fire({"run": run, "generate": generate, "draw_masks": draw_masks})
