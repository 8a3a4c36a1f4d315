"""Measures of what was painted or drawn."""

from .border import border_steps
from .frechet import frechet_distance
from .histogram_response import HistogramResponse, fit_histogram_response
from .image_quality import fill_from_surroundings, psnr, ssim
from .kernel import kernel_distance
from .segmentation import dice, mean_and_spread, surface_dice
from .shapes import SHAPE_MEASURES, shape_distances, shape_measures
from .sliced_wasserstein import sliced_wasserstein
from .texture import histogram_distance

__all__ = [
    "SHAPE_MEASURES",
    "HistogramResponse",
    "border_steps",
    "dice",
    "fill_from_surroundings",
    "fit_histogram_response",
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
