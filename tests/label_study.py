"""A small study for the MONAI Label server: chests on difficult grids, and a heart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from bundle_runs import save_nifti
from label_server import REPO_ROOT, Client, served
from small_chest import balls, chest
from thick_stacks import affine_of, ring, signal

APP = REPO_ROOT / "apps" / "lefusion_label"
# Slices first, the other axes flipped: voxels of 3 x 0.8 x 0.8 mm along S, L and P.
ANISOTROPIC = nib.affines.from_matvec(np.array([[0, -0.8, 0], [0, 0, -0.8], [3.0, 0, 0]]), [15.0, 60, -200])
GRIDS = {
    "oblique": (affine_of(spacing=(1.1, 0.9, 2.0)), (40, 36, 24)),
    "anisotropic": (ANISOTROPIC, (16, 44, 40)),
}


@dataclass(frozen=True)
class LabelApp:
    """The app, served.

    Attributes:
        address: of the server.
        client: one that is connected to it.
        studies: folder of the images.
        weights: folder of the weights that are trained.
    """

    address: str
    client: Client
    studies: Path
    weights: Path


@contextmanager
def served_app(folder: Path) -> Iterator[LabelApp]:
    """Serves the app on the study."""
    studies = folder / "studies"
    for name, (affine, shape) in GRIDS.items():
        save_nifti(studies / f"{name}.nii.gz", chest(shape), affine)
    save_nifti(studies / "heart.nii.gz", signal(ring()).astype(np.uint8), affine_of())
    with served(APP, studies, folder, [("weights", str(folder / "weights"))]) as address:
        client = Client(address, folder / "received")
        yield LabelApp(address, client, studies, folder / "weights")
        client.close()


def save_mask(folder: Path, mask: np.ndarray, affine: np.ndarray) -> Path:
    """A segmentation to send."""
    return save_nifti(folder / "mask.nii.gz", mask.astype(np.uint8), affine)


def ball(image: str, centre: Sequence[float], radius_mm: float) -> np.ndarray:
    """A mask of a ball on a chest's grid, (X, Y, Z) bool."""
    affine, shape = GRIDS[image]
    return balls(shape, [(centre, radius_mm)], nib.affines.voxel_sizes(affine))


def middle(image: str) -> list[int]:
    """Voxel indices in the middle of a chest."""
    return [size // 2 for size in GRIDS[image][1]]
