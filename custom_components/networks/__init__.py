"""Networks that MONAI lacks."""

from .histogram_unet import HistogramUNet

__all__ = ["HistogramUNet"]
