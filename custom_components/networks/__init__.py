"""Networks that MONAI lacks."""

from .factorised_unet import FactorisedUNet
from .histogram_unet import HistogramUNet
from .patch_unet import PatchUNet

__all__ = ["FactorisedUNet", "HistogramUNet", "PatchUNet"]
