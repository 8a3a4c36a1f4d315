"""Ignite handlers that MONAI lacks."""

from .adversarial import QuantisedGAN
from .checkpoint import AtomicCheckpoint, check_checkpoint
from .ema import EMAHandler
from .evaluation import LesionEvaluation
from .mask_evaluation import MaskEvaluation
from .mask_picture import MaskPicture
from .mask_saver import MaskSaver
from .progress import DatasetEpoch, IntermediateStates, ProgressBar, SamplePicture
from .saver import LesionSaver

__all__ = [
    "AtomicCheckpoint",
    "DatasetEpoch",
    "EMAHandler",
    "IntermediateStates",
    "LesionEvaluation",
    "LesionSaver",
    "MaskEvaluation",
    "MaskPicture",
    "MaskSaver",
    "ProgressBar",
    "QuantisedGAN",
    "SamplePicture",
    "check_checkpoint",
]
