"""Dictionary transforms that MONAI lacks."""

from .histogram import LesionHistogramd, RandDropConditiond
from .label_map import LesionMasksd, OrientSlicesd, ScaleToWindowd
from .lesion_crop import RandCropToLesiond
from .lesion_grid import LesionCropd, read_crop

__all__ = [
    "LesionCropd",
    "LesionHistogramd",
    "LesionMasksd",
    "OrientSlicesd",
    "RandCropToLesiond",
    "RandDropConditiond",
    "ScaleToWindowd",
    "read_crop",
]
