"""Dictionary transforms that MONAI lacks."""

from .click_mask import ClickCropd, MaskOntoScand
from .histogram import LesionHistogramd, RandDropConditiond
from .label_map import FillRegionsd, LesionMasksd, OrientSlicesd, ScaleToWindowd
from .lesion_crop import RandCropToLesiond
from .lesion_grid import LesionCropd, RealLesionCropd, read_crop
from .mask_grid import ControlSphered, MaskTargetCropd, RandMaskCropd

__all__ = [
    "ClickCropd",
    "ControlSphered",
    "FillRegionsd",
    "LesionCropd",
    "LesionHistogramd",
    "LesionMasksd",
    "MaskOntoScand",
    "MaskTargetCropd",
    "OrientSlicesd",
    "RandCropToLesiond",
    "RandDropConditiond",
    "RandMaskCropd",
    "RealLesionCropd",
    "ScaleToWindowd",
    "read_crop",
]
