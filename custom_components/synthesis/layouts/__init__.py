"""Where the files of a synthetic data set lie, so that what reads it next finds them: one class a convention."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...labels import LesionLabels
from .bids import BIDSLayout
from .layout import ROLES, Layout
from .monai import MONAILayout
from .nnunet import NNUNetLayout
from .plain import PlainLayout

__all__ = [
    "LAYOUTS",
    "ROLES",
    "BIDSLayout",
    "Layout",
    "MONAILayout",
    "NNUNetLayout",
    "PlainLayout",
    "layout_of",
    "make_layout",
]

LAYOUTS = {layout.name: layout for layout in (PlainLayout, MONAILayout, NNUNetLayout, BIDSLayout)}


def make_layout(name: str, root: str | Path, labels: LesionLabels, title: str = "LeFusion", **others: Any) -> Layout:
    """The layout of a name: ``plain``, ``monai``, ``nnunet`` or ``bids``.

    Args:
        name: of the layout.
        root, labels, title, others: see :class:`Layout`.

    Raises:
        InputError: for an unknown name, and for labels or a title that the convention cannot express.
    """
    if name not in LAYOUTS:
        raise InputError(f"layout must be one of {', '.join(LAYOUTS)}, got {name!r}.")
    return LAYOUTS[name](root, labels, title, **others)


def layout_of(root: str | Path, run: Mapping[str, Any]) -> Layout:
    """The layout of a finished set, from what ``synthesis.json`` tells of the run.

    Args:
        root: folder of the set.
        run: with ``layout``, ``lesion_classes``, ``title``, ``modality`` and ``input``.

    Raises:
        InputError: where a key is missing, and as :func:`make_layout`.
    """
    for key in ("layout", "lesion_classes", "title", "modality", "input"):
        if key not in run:
            raise InputError(f"the record of the run in {root} lacks {key!r}.")
    labels = LesionLabels(run["lesion_classes"])
    return make_layout(run["layout"], root, labels, run["title"], modality=run["modality"], source=run["input"])
