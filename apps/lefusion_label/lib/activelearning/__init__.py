"""Which image a client is given next."""

from .newest import NewestSynthetic

__all__ = ["NewestSynthetic"]
