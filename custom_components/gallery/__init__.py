"""A synthetic data set on one page that needs no other file: what was asked for, what was made, how it looks."""

from .page import write_gallery

__all__ = ["write_gallery"]
