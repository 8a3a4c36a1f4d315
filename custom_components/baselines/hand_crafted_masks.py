"""Hand-Crafted lesion masks (section 4.1): overlapping ellipsoids, then random morphological operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer
from scipy import ndimage
from scipy.spatial.transform import Rotation
from skimage.morphology import ball
from torch import Tensor, nn

from ..masks import bounding_sphere, tidy_masks
from ..seeds import derive_seed

__all__ = ["HandCraftedMasks"]

SIZE = 48  # voxels of the grid on which a shape is made
UNIT = SIZE / 4  # its voxels to one radius of the ball that the ellipsoids lie in


class HandCraftedMasks(Inferer):
    """Takes the place of :class:`~custom_components.mask_inferers.MaskDiffusionInferer`; needs no network.

    The shape's smallest enclosing sphere is the control sphere. A further class is a smaller shape of the same kind
    inside the first.

    Args:
        num_classes: number of lesion classes n.
        ellipsoids: fewest and most ellipsoids of a shape.
        operations: fewest and most morphological operations (dilation, erosion, opening or closing by a ball).
        seed: run seed, used where the call gives no ``seeds``.
    """

    def __init__(
        self,
        num_classes: int = 1,
        ellipsoids: Sequence[int] = (2, 5),
        operations: Sequence[int] = (1, 3),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.num_classes, self.ellipsoids, self.operations, self.seed = num_classes, ellipsoids, operations, seed

    def __call__(
        self, inputs: Tensor, network: nn.Module | None = None, *, seeds: Sequence[int] | None = None, **kwargs: Any
    ) -> Tensor:
        """
        Args:
            inputs: (N, 2, X, Y, Z): the control sphere, not negative inside it, and the boundary mask.
            network: not used.
            seeds: one seed per sample.

        Returns:
            (N, n, X, Y, Z) in [-1, 1], lesion above 0, -1 outside the boundary.
        """
        inputs = torch.as_tensor(inputs).as_subclass(Tensor)
        seeds = [derive_seed(self.seed, i) for i in range(len(inputs))] if seeds is None else seeds
        drawn = []
        for (sphere, boundary), seed in zip(inputs.cpu().numpy(), seeds, strict=True):
            rng = np.random.default_rng(int(seed))
            values = self._draw(sphere >= 0, rng)
            drawn.append(np.where(boundary > 0, values, -1))
        return torch.from_numpy(np.stack(drawn)).to(inputs)

    def _draw(self, sphere: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """All classes, (n, X, Y, Z) in [-1, 1], for a ball (X, Y, Z) bool."""
        if not sphere.any():
            return np.full((self.num_classes, *sphere.shape), -1.0)
        where = np.argwhere(sphere)
        middle, half = (where.min(axis=0) + where.max(axis=0)) / 2, (np.ptp(where, axis=0) + 1) / 2
        place = (np.indices(sphere.shape) - middle.reshape(3, 1, 1, 1)) / half.reshape(3, 1, 1, 1)
        values = []
        for number in range(self.num_classes):
            scale = 0.5**number
            offset = np.zeros(3) if number == 0 else rng.uniform(-0.3, 0.3, 3)
            values.append(self._shape((place - offset.reshape(3, 1, 1, 1)) / scale, rng))
        values = np.stack(values)
        for number in range(1, self.num_classes):  # inside the first class, which makes room for it
            values[number] = np.minimum(values[number], values[0])
            values[0] = np.where(values[number] > 0, -1, values[0])
        return values

    def _shape(self, place: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One shape whose smallest enclosing sphere has radius 1, at places (3, X, Y, Z) of its own coordinates."""
        grid = (np.indices((SIZE,) * 3).reshape(3, -1) - (SIZE - 1) / 2) / UNIT
        mask = np.zeros(grid.shape[1], bool)
        for _ in range(rng.integers(self.ellipsoids[0], self.ellipsoids[1] + 1)):
            turn = Rotation.random(rng=rng).as_matrix()
            local = (turn @ (grid - rng.uniform(-0.45, 0.45, (3, 1)))) / rng.uniform(0.35, 0.9, (3, 1))
            mask |= (local**2).sum(axis=0) <= 1
        mask = mask.reshape((SIZE,) * 3)
        for _ in range(rng.integers(self.operations[0], self.operations[1] + 1)):
            change = (
                ndimage.binary_dilation,
                ndimage.binary_erosion,
                ndimage.binary_opening,
                ndimage.binary_closing,
            )[rng.integers(4)]
            changed = change(mask, ball(int(rng.integers(1, 4))))
            mask = changed if changed.any() else mask
        mask = tidy_masks(np.where(mask, 1.0, -1.0)[None], largest_component=True)[0]
        centre, radius = bounding_sphere(mask, np.eye(4))
        index = place * radius + centre.reshape(3, 1, 1, 1)
        return 2 * ndimage.map_coordinates(mask.astype(float), index, order=1) - 1
