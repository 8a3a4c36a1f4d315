"""Methods that the paper compares with, behind the same calls as its own."""

from .copy_paste import paste_lesion
from .hand_crafted_masks import HandCraftedMasks

__all__ = ["HandCraftedMasks", "paste_lesion"]
