"""Dictionary transforms that MONAI lacks."""

from .histogram import LesionHistogramd, RandDropConditiond
from .lesion_crop import RandCropToLesiond
from .lesion_grid import LesionCropd

__all__ = ["LesionCropd", "LesionHistogramd", "RandCropToLesiond", "RandDropConditiond"]
