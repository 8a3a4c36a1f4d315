"""Dictionary transforms that MONAI lacks."""

from .histogram import LesionHistogramd, RandDropConditiond
from .lesion_crop import RandCropToLesiond

__all__ = ["LesionHistogramd", "RandCropToLesiond", "RandDropConditiond"]
