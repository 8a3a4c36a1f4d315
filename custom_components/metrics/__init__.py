"""Measures of what was painted or drawn."""

from .frechet import frechet_distance
from .image_quality import fill_from_surroundings, psnr, ssim
from .kernel import kernel_distance
from .segmentation import dice, mean_and_spread, surface_dice
from .shapes import SHAPE_MEASURES, shape_distances, shape_measures
from .sliced_wasserstein import sliced_wasserstein
from .texture import histogram_distance

__all__ = [
    "SHAPE_MEASURES",
    "dice",
    "fill_from_surroundings",
    "frechet_distance",
    "histogram_distance",
    "kernel_distance",
    "mean_and_spread",
    "psnr",
    "shape_distances",
    "shape_measures",
    "sliced_wasserstein",
    "ssim",
    "surface_dice",
]
