"""Methods that the paper compares with, behind the same calls as its own."""

from .copy_paste import paste_lesion
from .hand_crafted_masks import HandCraftedMasks
from .hand_crafted_texture import HandCraftedTexture, NoNetwork, refuse_training
from .texture_levels import core_moments, level_ranges, read_levels

__all__ = [
    "HandCraftedMasks",
    "HandCraftedTexture",
    "NoNetwork",
    "core_moments",
    "level_ranges",
    "paste_lesion",
    "read_levels",
    "refuse_training",
]
