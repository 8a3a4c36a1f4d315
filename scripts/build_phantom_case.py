# SPDX-License-Identifier: Apache-2.0
"""Make the cardiac bundle's sample: a healthy phantom heart, and the label map of lesions to paint into it.

python scripts/build_phantom_case.py bundles/lefusion_emidec/sample
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from custom_components.errors import InputError, as_flag, install_excepthook
from custom_components.files import check_writable, write_atomically
from custom_components.phantoms import short_axis_phantom
from lefusion_scripts.write_phantoms import save_volume


def build_phantom_case(
    output_dir: str,
    seed: int = 2,
    shape: Sequence[int] = (128, 128, 8),
    spacing_mm: Sequence[float] = (1.4, 1.4, 10.0),
    overwrite: bool = False,
) -> None:
    """Write a phantom without lesions, the same heart's label map with infarct and obstruction, and a datalist.

    Args:
        output_dir: folder to write to.
        seed: of the heart and its lesions.
        shape, spacing_mm: voxels and their size.
        overwrite: replace existing files.
    """
    out = Path(output_dir)
    check_writable(out)
    if (out / "datalist.json").exists() and not as_flag(overwrite, "overwrite"):
        raise InputError(f"{out / 'datalist.json'} exists already: pass --overwrite true.")
    healthy, ill = (short_axis_phantom(seed, shape, spacing_mm, pathological) for pathological in (False, True))
    save_volume(healthy.image, healthy.affine, out / "phantom_mr.nii.gz")
    save_volume(ill.labels, ill.affine, out / "phantom_labels.nii.gz")
    entry = {"image": "phantom_mr.nii.gz", "label": "phantom_labels.nii.gz", "case": "phantom"}
    write_atomically(out / "datalist.json", lambda path: path.write_text(json.dumps([entry], indent=2) + "\n"))
    print(f"wrote a phantom of seed {seed} to {out}")


if __name__ == "__main__":
    import fire

    install_excepthook()
    fire.Fire(build_phantom_case)
