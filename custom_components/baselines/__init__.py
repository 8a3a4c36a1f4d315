"""Methods that the paper compares with, behind the same calls as its own."""

from .hand_crafted_masks import HandCraftedMasks

__all__ = ["HandCraftedMasks"]
