"""Networks that MONAI lacks."""

from .factorised_unet import FactorisedUNet
from .histogram_unet import HistogramUNet

__all__ = ["FactorisedUNet", "HistogramUNet"]
