# SPDX-License-Identifier: Apache-2.0
"""Build the sample of the mask bundle: the lung of a chest CT, to draw nodule masks in.

python scripts/build_organ_sample.py bundles/lefusion_lidc/sample/ct.nii.gz bundles/diffmask/sample
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy import ndimage

from custom_components.files import write_atomically
from custom_components.volumes import read_scan, write_scan

AIR_HU = -500
CLOSING_MM = 6.0  # vessels thinner than this count as lung
LICENCE_MARK = "---- Licence of pyradiomics ----"
NOTICE = f"""organ.nii.gz is the lung in the CT crop that lefusion_lidc ships as its sample, found by a threshold and
closed over the vessels. The CT is of the pyradiomics 3.0.1 source distribution, under the licence of pyradiomics,
copied below. Please cite van Griethuysen et al., Cancer Research 77(21):e104, 2017, doi:10.1158/0008-5472.CAN-17-0339.

{LICENCE_MARK}"""


def build_organ_sample(ct: str, output_dir: str) -> None:
    """Write organ.nii.gz (0/1, on the CT's grid), datalist.json and NOTICE.

    Args:
        ct: ct.nii.gz of the sample of lefusion_lidc, in HU, beside its NOTICE.
        output_dir: folder to write to.
    """
    scan, output = read_scan(ct), Path(output_dir)
    air, _ = ndimage.label(scan.values() < AIR_HU)
    lung = air == np.bincount(air[air > 0]).argmax()
    # Closing by distances, so that thick slices do not matter.
    to_lung = ndimage.distance_transform_edt(~lung, sampling=scan.spacing_mm)
    grown = to_lung <= CLOSING_MM / 2
    lung |= ndimage.distance_transform_edt(np.pad(grown, 1, "edge"), sampling=scan.spacing_mm)[1:-1, 1:-1, 1:-1] > (
        CLOSING_MM / 2
    )
    write_scan(scan, lung.astype(np.uint8), output / "organ.nii.gz", "lung", scaled=False)
    datalist = [{"image": "organ.nii.gz", "label": "organ.nii.gz", "case": "sample"}]
    write_atomically(output / "datalist.json", lambda path: path.write_text(json.dumps(datalist, indent=2) + "\n"))
    licence = Path(ct).with_name("NOTICE").read_text().split(LICENCE_MARK)[1]
    write_atomically(output / "NOTICE", lambda path: path.write_text(NOTICE + licence))


if __name__ == "__main__":
    import fire

    fire.Fire(build_organ_sample)
