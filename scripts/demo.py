"""The main job on the embedded sample: its lesions in every texture, in one picture."""

from __future__ import annotations

import json
from pathlib import Path

from monai.bundle import ConfigParser

from custom_components.bundle_configs import bundle_root
from custom_components.datasets import list_cases
from custom_components.files import write_atomically
from custom_components.labels import LesionLabels
from custom_components.panels import save_texture_grid
from custom_components.specs import LesionSpec, read_lesions
from custom_components.volumes import read_scan

from .run import run


def demo(output_dir: str = "demo_output", bundle: str = "lefusion_lidc", seed: int = 0) -> None:
    """Paint a bundle's sample in every texture (about a minute on two cores).

    Where a bundle paints several classes, the textures are those of the first; the others' are drawn at random.

    Args:
        output_dir: outputs go to OUTPUT_DIR/<texture>/, the picture to OUTPUT_DIR/textures.png; outputs of an
            earlier demo are replaced.
        bundle: a bundle's name or folder.
        seed: run seed.
    """
    root, out = bundle_root(bundle), Path(output_dir)
    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "inference.json"))
    labels = parser.get_parsed_content("labels") if "labels" in parser else LesionLabels()
    presets = json.loads((root / "configs" / "texture_presets.json").read_text())
    first = labels.names[0]
    textures = list(presets.get("classes", {first: presets})[first]["presets"])
    for texture in textures:
        print(f"painting {texture.replace('_', ' ')} lesions ...", flush=True)
        run(
            "inference",
            str(root),
            output_dir=str(out / texture),
            texture=texture if len(labels.names) == 1 else {first: texture},
            seed=seed,
            overwrite=True,
            logging_file=False,
        )
    case = list_cases(root / "sample")[0]
    name = case["case"]
    sidecars = [json.loads((out / texture / f"{name}_lefusion.json").read_text()) for texture in textures]
    found = read_lesions(case["image"], case["label"], labels)
    painted = {t: read_scan(out / t / f"{name}_lefusion.nii.gz").values() for t in textures}
    scan = found.scan
    masks = {key: found.label == value for key, value in labels.classes.items()}
    specs = [LesionSpec(**lesion["spec"]) for lesion in sidecars[0]["lesions"]]
    shown = [spec for spec in specs if spec.lesion_class == first]
    width_mm = parser.get("saver#panel_width_mm", 56.0)
    picture = out / "textures.png"
    write_atomically(
        picture, lambda path: save_texture_grid(scan.values(), painted, masks, scan.affine, shown, path, width_mm)
    )
    unit = "HU" if parser.get("hu_window") is not None else "units of the scan"
    print(
        f"\n{'lesion':14s}{'size':>10s}{'before':>10s}" + "".join(f"{t:>14s}" for t in textures) + f"   (mean, {unit})"
    )
    for i, spec in enumerate(specs):
        lesions = [sidecar["lesions"][i] for sidecar in sidecars]
        means = "".join(f"{lesion['mean_painted']:14.0f}" for lesion in lesions)
        title = f"{spec.lesion}" if len(labels.names) == 1 else f"{spec.lesion} {spec.lesion_class}"
        print(f"{title:14s}{spec.volume_mm3 / 1000:7.1f} ml{lesions[0]['mean_before']:10.0f}{means}")
    print("largest difference outside the masks: 0 (bit for bit)")
    print(f"picture: {picture}\nscans, masks, panels, sidecars: {out}/<texture>/")
