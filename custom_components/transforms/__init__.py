"""Dictionary transforms that MONAI lacks."""

from .click_mask import ClickCropd, MaskOntoScand
from .foreground_crop import RandCropForegroundd
from .histogram import LesionHistogramd, RandDropConditiond
from .label_map import FillRegionsd, LesionMasksd, OrientSlicesd, ScaleToWindowd
from .lesion_crop import RandCropToLesiond
from .lesion_grid import LesionCropd, RealLesionCropd, read_crop
from .mask_grid import ControlSphered, MaskTargetCropd, RandMaskCropd
from .scan_volume import LoadScand
from .segmentation import LesionClassesd, SegmentationOnScand

__all__ = [
    "ClickCropd",
    "ControlSphered",
    "FillRegionsd",
    "LesionClassesd",
    "LesionCropd",
    "LesionHistogramd",
    "LesionMasksd",
    "LoadScand",
    "MaskOntoScand",
    "MaskTargetCropd",
    "OrientSlicesd",
    "RandCropForegroundd",
    "RandCropToLesiond",
    "RandDropConditiond",
    "RandMaskCropd",
    "RealLesionCropd",
    "ScaleToWindowd",
    "SegmentationOnScand",
    "read_crop",
]
