"""Networks that MONAI lacks."""

from .factorised_unet import FactorisedUNet
from .histogram_unet import HistogramUNet
from .patch_size import check_patch_size
from .patch_unet import PatchUNet
from .swin_segmenter import SwinSegmenter

__all__ = ["FactorisedUNet", "HistogramUNet", "PatchUNet", "SwinSegmenter", "check_patch_size"]
