"""Methods that the paper compares with, behind the same calls as its own."""

from .copy_paste import paste_lesion
from .hand_crafted_masks import HandCraftedMasks
from .hand_crafted_texture import HandCraftedTexture, NoNetwork, refuse_training

__all__ = ["HandCraftedMasks", "HandCraftedTexture", "NoNetwork", "paste_lesion", "refuse_training"]
