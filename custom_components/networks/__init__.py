"""Networks that MONAI lacks."""

from .histogram_unet import HistogramUNet
from .patch_unet import PatchUNet

__all__ = ["HistogramUNet", "PatchUNet"]
