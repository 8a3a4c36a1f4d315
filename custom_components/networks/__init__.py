"""Networks that MONAI lacks."""

from .factorised_unet import FactorisedUNet
from .histogram_unet import HistogramUNet
from .latent_unet import LatentUNet
from .patch_unet import PatchUNet
from .vq_autoencoder import VQAutoencoder

__all__ = ["FactorisedUNet", "HistogramUNet", "LatentUNet", "PatchUNet", "VQAutoencoder"]
