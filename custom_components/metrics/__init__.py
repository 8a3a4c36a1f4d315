"""Measures of what was painted."""

from .image_quality import fill_from_surroundings, psnr, ssim
from .texture import histogram_distance

__all__ = ["fill_from_surroundings", "histogram_distance", "psnr", "ssim"]
