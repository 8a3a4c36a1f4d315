"""The main job on the embedded sample: every sample nodule in every texture, in one picture."""

from __future__ import annotations

import json
from pathlib import Path

from custom_components.conditioners import HistogramConditioner
from custom_components.files import write_atomically
from custom_components.panels import save_texture_grid
from custom_components.specs import LesionSpec
from custom_components.volumes import read_mask, read_scan

from .run import bundle_root, run


def demo(output_dir: str = "demo_output", bundle: str = "lefusion_lidc", seed: int = 0) -> None:
    """Paint the sample's three nodules in three textures each (about a minute on two cores).

    Args:
        output_dir: outputs go to OUTPUT_DIR/<texture>/, the picture to OUTPUT_DIR/textures.png; outputs of an
            earlier demo are replaced.
        bundle: a bundle's name or folder.
        seed: run seed.
    """
    root, out = bundle_root(bundle), Path(output_dir)
    textures = list(HistogramConditioner(root / "configs" / "texture_presets.json").presets)
    for texture in textures:
        print(f"painting {texture.replace('_', ' ')} nodules ...", flush=True)
        run(
            "inference",
            str(root),
            output_dir=str(out / texture),
            texture=texture,
            seed=seed,
            overwrite=True,
            logging_file=False,
        )
    sidecars = [json.loads((out / texture / "sample_lefusion.json").read_text()) for texture in textures]
    specs = [LesionSpec(**lesion["spec"]) for lesion in sidecars[0]["lesions"]]
    scan = read_scan(root / "sample" / "ct.nii.gz")
    mask = read_mask(root / "sample" / "mask.nii.gz", scan)
    painted = {t: read_scan(out / t / "sample_lefusion.nii.gz").values() for t in textures}
    window = sidecars[0]["settings"]["hu_window"]
    picture = out / "textures.png"
    write_atomically(
        picture,
        lambda path: save_texture_grid(scan.values(), painted, mask, scan.affine, specs, window, path),
    )
    print(f"\n{'nodule':8s}{'diameter':>10s}{'before':>10s}" + "".join(f"{t:>14s}" for t in textures) + "   (mean HU)")
    for i, spec in enumerate(specs):
        lesions = [sidecar["lesions"][i] for sidecar in sidecars]
        means = "".join(f"{lesion['mean_painted']:14.0f}" for lesion in lesions)
        print(f"{spec.lesion:<8d}{2 * spec.radius_mm:7.0f} mm{lesions[0]['mean_before']:10.0f}{means}")
    print("largest difference outside the masks: 0 (bit for bit)")
    print(f"picture: {picture}\nscans, masks, panels, sidecars: {out}/<texture>/")
