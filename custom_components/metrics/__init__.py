"""Measures of what was painted or drawn."""

from .image_quality import fill_from_surroundings, psnr, ssim
from .shapes import SHAPE_MEASURES, shape_distances, shape_measures
from .texture import histogram_distance

__all__ = [
    "SHAPE_MEASURES",
    "fill_from_surroundings",
    "histogram_distance",
    "psnr",
    "shape_distances",
    "shape_measures",
    "ssim",
]
