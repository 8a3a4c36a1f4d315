"""Ignite handlers that MONAI lacks."""

from .checkpoint import AtomicCheckpoint, load_weights, write_atomically
from .ema import EMAHandler
from .progress import DatasetEpoch, ProgressBar, SamplePicture

__all__ = [
    "AtomicCheckpoint",
    "DatasetEpoch",
    "EMAHandler",
    "ProgressBar",
    "SamplePicture",
    "load_weights",
    "write_atomically",
]
