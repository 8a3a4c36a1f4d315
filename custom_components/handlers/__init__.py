"""Ignite handlers that MONAI lacks."""

from .adversarial import QuantisedGAN
from .checkpoint import AtomicCheckpoint, check_checkpoint
from .ema import EMAHandler
from .evaluation import LesionEvaluation
from .gradient_clipping import GradientClipping
from .mask_evaluation import MaskEvaluation
from .mask_picture import MaskPicture
from .mask_saver import MaskSaver
from .missed_dice import MissedDice
from .progress import DatasetEpoch, IntermediateStates, ProgressBar, SamplePicture
from .saver import LesionSaver
from .segmentation_evaluation import SegmentationEvaluation
from .segmentation_saver import SegmentationSaver

__all__ = [
    "AtomicCheckpoint",
    "DatasetEpoch",
    "EMAHandler",
    "GradientClipping",
    "IntermediateStates",
    "LesionEvaluation",
    "LesionSaver",
    "MaskEvaluation",
    "MaskPicture",
    "MaskSaver",
    "MissedDice",
    "ProgressBar",
    "QuantisedGAN",
    "SamplePicture",
    "SegmentationEvaluation",
    "SegmentationSaver",
    "check_checkpoint",
]
