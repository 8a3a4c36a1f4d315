"""Networks that MONAI lacks."""

from .factorised_unet import FactorisedUNet
from .histogram_unet import HistogramUNet
from .latent_unet import LatentUNet
from .patch_size import check_patch_size
from .patch_unet import PatchUNet
from .swin_segmenter import SwinSegmenter
from .vq_autoencoder import VQAutoencoder

__all__ = [
    "FactorisedUNet",
    "HistogramUNet",
    "LatentUNet",
    "PatchUNet",
    "SwinSegmenter",
    "VQAutoencoder",
    "check_patch_size",
]
