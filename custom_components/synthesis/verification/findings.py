"""What is wrong with a set, said once."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Finding"]


class Finding(NamedTuple):
    """One thing that is not as recorded.

    Attributes:
        file: the file at fault, relative to the set's folder (absolute for a source scan).
        sentence: what is wrong with it.
        case: its case, empty where it belongs to none.
    """

    file: str
    sentence: str
    case: str = ""
