"""Runs a bundle's workflow through ``monai.bundle.run``, after checking what MONAI would silently accept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import monai.bundle

from custom_components.bundle_configs import as_overrides, bundle_root, check_overrides, config_files


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
    overrides = as_overrides(overrides)
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
