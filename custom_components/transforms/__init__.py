"""Dictionary transforms that MONAI lacks."""

from .histogram import LesionHistogramd, RandDropConditiond
from .label_map import FillRegionsd, LesionMasksd, OrientSlicesd, ScaleToWindowd
from .lesion_crop import RandCropToLesiond
from .lesion_grid import LesionCropd, RealLesionCropd, read_crop
from .mask_grid import ControlSphered, MaskTargetCropd, RandMaskCropd

__all__ = [
    "ControlSphered",
    "FillRegionsd",
    "LesionCropd",
    "LesionHistogramd",
    "LesionMasksd",
    "MaskTargetCropd",
    "OrientSlicesd",
    "RandCropToLesiond",
    "RandDropConditiond",
    "RandMaskCropd",
    "RealLesionCropd",
    "ScaleToWindowd",
    "read_crop",
]
