"""A made-up heart: short-axis late-gadolinium MR of nobody, for demonstrations and tests.

Tissue contrasts follow real phase-sensitive scans, whose zero lies in the middle of the 12-bit range (2048). Signals
below are multiples of that of the blood: 1 in both ventricles, about 0.55 in healthy myocardium, 2.1 in fat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .errors import InputError
from .seeds import derive_seed
from .ventricular_coordinates import wall_stack

__all__ = ["Phantom", "short_axis_lesions", "short_axis_phantom"]

CAVITY, MYOCARDIUM, INFARCT, CORE = 1, 2, 3, 4
ZERO, LARGEST = 2048, 4095  # of the 12-bit phase-sensitive scale
SUBSLICES = 3  # sampled through the thickness of a slice: what lies askew is blurred as in a real thick slice
HEART_MM = 125.0  # field of view that shows any heart whole


@dataclass(frozen=True)
class Phantom:
    """A phantom and its labels.

    Attributes:
        image: (X, Y, Z) int16 in [0, 4095]. X runs from the anterior to the inferior wall, Y from the free wall to
            the septum, Z from the apex to the base.
        labels: (X, Y, Z) uint8: 0 background, 1 cavity, 2 myocardium, 3 infarct, 4 its core without perfusion.
        affine: 4x4, voxel indices to RAS+ mm; the axes are called L, P, S as in most files of this kind.
    """

    image: np.ndarray
    labels: np.ndarray
    affine: np.ndarray


@dataclass(frozen=True)
class _Heart:
    """Everything that differs between two phantoms: lengths in mm, angles in radians, signals as multiples of blood."""

    blood: float  # units of the 12-bit scale above ZERO
    myocardium: float
    fat: float
    lung: float
    noise: float
    centre: tuple[float, float]
    tilt: tuple[float, float]  # shift of the centre from apex to base
    turn: float
    radius: float
    wall: float
    septum_angle: float  # where the wall is thickest
    elongation: float
    wobble: tuple[float, float, float]  # phases of the outline's harmonics
    rv_reach: float  # of the right ventricle, in outer radii of the left one
    papillary: tuple[float, float]
    shading: tuple[float, float]
    dome: float  # of the diaphragm, below the ventricle's middle

    @classmethod
    def draw(cls, seed: int) -> _Heart:
        rng = np.random.default_rng(derive_seed(seed, "heart"))

        def pair(spread: float) -> tuple[float, ...]:
            return tuple(float(x) for x in rng.normal(0, spread, 2))

        return cls(
            blood=float(np.clip(rng.normal(520, 120), 260, 800)),
            myocardium=float(np.clip(rng.normal(0.52, 0.12), 0.25, 0.75)),
            fat=float(np.clip(rng.normal(2.1, 0.25), 1.6, 2.7)),
            lung=float(rng.uniform(0.0, 0.5)),
            noise=float(rng.uniform(0.02, 0.05)),
            centre=pair(3),
            tilt=pair(3),
            turn=float(rng.normal(0, 0.2)),
            radius=float(np.clip(rng.normal(25, 2.5), 19, 30)),
            wall=float(np.clip(rng.normal(10, 0.9), 8, 12)),
            septum_angle=float(rng.uniform(-np.pi, np.pi)),
            elongation=float(rng.uniform(1.0, 1.12)),
            wobble=tuple(float(x) for x in rng.uniform(-np.pi, np.pi, 3)),
            rv_reach=float(rng.uniform(1.55, 1.8)),
            papillary=(float(rng.normal(-2.3, 0.2)), float(rng.normal(2.3, 0.2))),
            shading=pair(0.12),
            dome=float(rng.uniform(30, 46)),
        )


def short_axis_phantom(
    seed: int = 0,
    shape: Sequence[int] = (160, 160, 8),
    spacing_mm: Sequence[float] = (1.4, 1.4, 10.0),
    pathological: bool = False,
) -> Phantom:
    """A heart drawn from a seed; the same seed gives the same heart and noise with and without a lesion.

    Args:
        seed: of sizes, position, contrasts and noise.
        shape: voxels; the slices span the left ventricle from apex to base, however many there are.
        spacing_mm: voxel size.
        pathological: with an infarct, bright as blood, and its dark core (:func:`short_axis_lesions`).

    Raises:
        InputError: where the field of view does not hold a heart.
    """
    if len(shape) != 3 or len(spacing_mm) != 3 or min(shape) < 1 or not min(spacing_mm) > 0:
        raise InputError(
            f"shape {tuple(shape)} and spacing_mm {tuple(spacing_mm)} must be three positive numbers each."
        )
    if min(n * mm for n, mm in zip(shape[:2], spacing_mm[:2], strict=True)) < HEART_MM:
        raise InputError(
            f"shape {tuple(shape)} at {tuple(spacing_mm)} mm shows less than the {HEART_MM:g} mm of a heart."
        )
    heart, rng = _Heart.draw(seed), np.random.default_rng(derive_seed(seed, "noise"))
    affine = np.diag([-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)

    heights = (np.arange(shape[2]) + 0.5) / shape[2]
    down, right = _plane(heart, shape, spacing_mm, heights)
    cavity, wall = _left_ventricle(heart, down, right, heights)
    labels = np.where(cavity < 0, CAVITY, np.where(wall < 0, MYOCARDIUM, 0)).astype(np.uint8)

    fine = (np.arange(shape[2] * SUBSLICES) + 0.5) / (shape[2] * SUBSLICES)
    signal = _tissue(heart, *_plane(heart, shape, spacing_mm, fine), fine, seed)
    signal = signal.reshape(*shape, SUBSLICES).mean(axis=-1)
    if pathological:
        labels = short_axis_lesions(labels, affine, seed)
        signal = _add_lesions(signal, labels, heart, spacing_mm, derive_seed(seed, "lesion texture"))
    signal *= 1 + 0.1 * _smooth_noise(rng, shape, spacing_mm, 4.0)
    signal = _blur(signal, spacing_mm, 0.9)  # the point spread of the acquisition
    shading = 1 + heart.shading[0] * down[..., :1] / 100 + heart.shading[1] * right[..., :1] / 100
    noisy = signal * shading + heart.noise * rng.standard_normal(shape)
    image = np.clip(np.rint(ZERO + heart.blood * noisy), 0, LARGEST).astype(np.int16)
    return Phantom(image, labels, affine)


def short_axis_lesions(labels: np.ndarray, affine: np.ndarray, seed: int = 0, core: bool = True) -> np.ndarray:
    """A label map with an infarct drawn into its myocardium, (X, Y, Z) uint8.

    The infarct (label 3) begins at the cavity, spans an angle and several slices, and reaches less far towards the
    outer edge where it ends; its core without perfusion (label 4) lies within.

    Args:
        labels: (X, Y, Z), 1 cavity, 2 myocardium.
        affine: 4x4, voxel indices to RAS+ mm.
        seed: of place and size.
        core: whether there is one.

    Raises:
        InputError: where there is no myocardium.
    """
    slices = wall_stack(labels, affine, CAVITY, (MYOCARDIUM,)).slices
    if not slices:
        raise InputError(f"the label map has no myocardium (label {MYOCARDIUM}) to draw an infarct into.")
    rng = np.random.default_rng(derive_seed(seed, "lesion"))
    middle = int(rng.integers(len(slices) // 4, 3 * len(slices) // 4 + 1))
    angle, phase = rng.uniform(-np.pi, np.pi, 2)
    half_angle, half_height = rng.uniform(0.7, 1.9), rng.uniform(0.35, 0.65)
    reach, core_reach = rng.uniform(0.65, 1.1), rng.uniform(0.35, 0.75)
    out = labels.astype(np.uint8)
    for number, part in enumerate(slices):
        turned = np.angle(np.exp(1j * (part.angle - angle)))
        far = (turned / half_angle) ** 2 + ((number - middle) / len(slices) / half_height) ** 2
        ragged = 1 + 0.15 * np.sin(5 * part.angle + phase)
        edge = reach * ragged * np.sqrt(np.clip(1 - far, 0, None))
        inner = core_reach * reach * ragged * np.sqrt(np.clip(1 - 2.2 * far, 0, None))
        # However coarse the grid, there is an infarct of one voxel.
        infarct = part.depth < edge
        if number == middle and not infarct.any():
            infarct[np.lexsort((part.depth, far))[0]] = True
        out[tuple(part.index[infarct].T)] = INFARCT
        if core:
            inside = infarct & (part.depth > 0.1) & (part.depth < inner)
            out[tuple(part.index[inside].T)] = CORE
    return out


def _plane(
    heart: _Heart, shape: Sequence[int], spacing_mm: Sequence[float], heights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Millimetres below (inferior) and right (septal) of the ventricle's middle, two (X, Y, heights)."""
    x, y = ((np.arange(shape[a]) - (shape[a] - 1) / 2) * spacing_mm[a] for a in (0, 1))
    x = x[:, None, None] - heart.centre[0] - heart.tilt[0] * (heights - 0.5)
    y = y[None, :, None] - heart.centre[1] - heart.tilt[1] * (heights - 0.5)
    cos, sin = np.cos(heart.turn), np.sin(heart.turn)
    return cos * x - sin * y, sin * x + cos * y


def _left_ventricle(
    heart: _Heart, down: np.ndarray, right: np.ndarray, heights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Signed distances in mm, negative inside, to the cavity's edge and to the outer edge of the wall."""
    angle, reach = np.arctan2(down, right), np.hypot(down / heart.elongation, right * heart.elongation)
    taper = (1 - heights) ** 2.5  # measured: near the apex 0.57 of the radius and 0.73 of the wall
    second, third, fifth = (np.cos(n * angle + phase) for n, phase in zip((2, 3, 5), heart.wobble, strict=True))
    inner = heart.radius * (1 - 0.5 * taper) * (1 + 0.03 * second + 0.02 * third + 0.01 * fifth)
    wall = heart.wall * (1 - 0.3 * taper) * (1 + 0.12 * np.cos(angle - heart.septum_angle))
    return reach - inner, reach - inner - wall


def _tissue(heart: _Heart, down: np.ndarray, right: np.ndarray, heights: np.ndarray, seed: int) -> np.ndarray:
    """The noiseless signal without lesions, painted from the back to the front, (X, Y, heights)."""
    rng = np.random.default_rng(derive_seed(seed, "organs"))
    cavity, wall = _left_ventricle(heart, down, right, heights)
    outer = heart.radius + heart.wall
    signal = np.zeros_like(down)

    def paint(distance_mm: np.ndarray, value: float | np.ndarray, edge_mm: float = 1.5) -> None:
        cover = np.clip(0.5 - distance_mm / edge_mm, 0, 1)
        signal[:] = signal + cover * (value - signal)

    def ellipse(middle: Sequence[float], radii: Sequence[float]) -> np.ndarray:
        """Distance to an ellipse around (down, right) mm, exact along its shorter axis."""
        return (np.hypot((down - middle[0]) / radii[0], (right - middle[1]) / radii[1]) - 1) * np.minimum(*radii)

    chest, streaks = ellipse((75, 40), (140, 165)), np.sin(right / 9 + down / 23)
    paint(chest, heart.fat)
    paint(chest + 13 + 2 * streaks, 0.55 + 0.15 * streaks)
    paint(chest + 24 + 2 * streaks, heart.fat * 0.8)
    paint(chest + 27, heart.lung)
    for _ in range(40):  # vessels of the lung
        place = rng.uniform((-40, -110), (100, -30))
        vessel = np.hypot(down - place[0], right - place[1]) - rng.uniform(0.8, 2.2)
        paint(np.maximum(vessel, chest + 27), 0.9)
    mediastinum = heart.rv_reach * outer - 4 + 12 * np.sin(down / 17 + heart.wobble[0]) - right
    paint(np.maximum(mediastinum, chest + 27), 1.2 + 0.35 * np.sin(down / 11) * np.cos(right / 8), 6)
    below = heart.dome + 12 * heights + 0.004 * (right - 30) ** 2 - down
    paint(np.maximum(below - 4, chest + 27), heart.fat * 0.75, 3)
    paint(np.maximum(below, chest + 29), 0.9, 3)
    stomach = rng.uniform((heart.dome + 28, -15), (heart.dome + 40, 35))
    paint(ellipse(stomach, (18, 24)), 0.9)
    paint(ellipse(stomach, (13, 19)), rng.uniform(-1.2, 0.2), 8)
    paint(ellipse((72, -25), (10, 10)) + 12 * np.clip(0.5 - heights, 0, 1), 1.0)  # the descending aorta

    # The right ventricle leans on the left one and ends before the apex; fat lies in the grooves around both.
    size = 1 - (1 - heights) ** 3
    middle, radii = (2 * size, 0.75 * outer * size), (1.05 * outer * size, (heart.rv_reach - 0.75) * outer * size)
    right_ventricle = ellipse(middle, radii)
    angle = np.arctan2(down, right)
    paint(np.minimum(wall - 2.5 - 2.5 * np.cos(angle - 1.2) ** 2, right_ventricle - 7), heart.fat * 0.85, 3)
    paint(right_ventricle - 2.5, heart.myocardium)
    paint(right_ventricle, 1.0 + 0.06 * np.sin(down / 5), 2.5)
    paint(wall, heart.myocardium)
    paint(cavity, 1.0, 3)
    muscles = [(direction, 0.68, 4.2) for direction in heart.papillary]
    muscles += [(float(rng.uniform(-np.pi, np.pi)), float(rng.uniform(0.85, 1)), 1.8) for _ in range(12)]
    for direction, place, radius in muscles:  # papillary muscles and trabeculae, counted as cavity
        reach = place * heart.radius * (1 - 0.5 * (1 - heights) ** 2.5)
        muscle = np.hypot(down - reach * np.sin(direction), right - reach * np.cos(direction))
        paint(muscle - radius * np.clip(1.6 - 1.6 * heights, 0, 1), heart.myocardium + 0.1, 2)
    return signal


def _add_lesions(
    signal: np.ndarray, labels: np.ndarray, heart: _Heart, spacing_mm: Sequence[float], seed: int
) -> np.ndarray:
    """The signal with the infarct at about that of blood, patchy, and its core halfway back to the myocardium's."""
    rng = np.random.default_rng(seed)
    patches = _smooth_noise(rng, signal.shape, spacing_mm, 2.5)
    for label, middle, spread in ((INFARCT, rng.uniform(0.9, 1.2), 0.1), (CORE, rng.uniform(0.5, 0.8), 0.06)):
        cover = _blur((labels >= label).astype(float), spacing_mm, 0.5)
        signal = signal + cover * (max(middle, heart.myocardium + 0.1) + spread * patches - signal)
    return signal


def _blur(values: np.ndarray, spacing_mm: Sequence[float], sigma_mm: float) -> np.ndarray:
    return ndimage.gaussian_filter(values, [sigma_mm / spacing_mm[0], sigma_mm / spacing_mm[1], 0], mode="nearest")


def _smooth_noise(
    rng: np.random.Generator, shape: Sequence[int], spacing_mm: Sequence[float], sigma_mm: float
) -> np.ndarray:
    """Noise of unit variance that varies over about the given length within a slice, (X, Y, Z)."""
    noise = _blur(rng.standard_normal(shape), spacing_mm, sigma_mm)
    return noise / noise.std()
