"""What the numbers of a label map mean: lesion classes, anatomy, and which voxels make one lesion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .errors import InputError

__all__ = ["LesionLabels"]


@dataclass(frozen=True)
class LesionLabels:
    """The meaning of a label map.

    Attributes:
        classes: lesion class -> its value in the label map, in the order of the network's channels.
        anatomy: other structures the label map may hold -> value; they are never painted into.
        joint: all lesion voxels of a scan form one lesion, whose classes are painted together (section 3.2, joint
            modelling); otherwise every connected component is a lesion of its own.
        centre_on: names whose voxels' bounding box is the middle of a crop; empty: the lesion itself.

    Raises:
        InputError: for no class, values that are no whole numbers from 1 to 255 or not unique, or an unknown name.
    """

    classes: Mapping[str, int] = field(default_factory=lambda: {"lesion": 1})
    anatomy: Mapping[str, int] = field(default_factory=dict)
    joint: bool = False
    centre_on: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.classes, Mapping) or not self.classes:
            raise InputError(f"lesion_classes must map at least one class to its label, got {self.classes!r}.")
        known = {**self.classes, **self.anatomy}
        for name, value in known.items():
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 255:
                raise InputError(f"the label of {name!r} must be a whole number from 1 to 255, got {value!r}.")
        if len(set(known.values())) < len(self.classes) + len(self.anatomy):
            raise InputError(f"lesion classes and anatomy must have different labels, got {known}.")
        for name in self.centre_on:
            if name not in known:
                raise InputError(f"centre_on names {name!r}; known: {', '.join(known)}.")

    @property
    def key(self) -> tuple:
        """Hashable: two layouts with equal keys read a label map alike."""
        return tuple(self.classes.items()), tuple(self.anatomy.items()), self.joint

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LesionLabels) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def names(self) -> list[str]:
        """The lesion classes."""
        return list(self.classes)

    def lesion(self, label: np.ndarray) -> np.ndarray:
        """Voxels of any lesion class, bool of the label map's shape."""
        return np.isin(label, list(self.classes.values()))

    def region(self, label: np.ndarray) -> np.ndarray:
        """Voxels that a crop is centred on: those of ``centre_on``, or of the lesions where there are none."""
        known = {**self.classes, **self.anatomy}
        found = np.isin(label, [known[name] for name in self.centre_on])
        return found if found.any() else self.lesion(label)

    def check(self, label: np.ndarray, role: str, lesion: bool = True) -> None:
        """Raises InputError where a label map holds an unknown value, or, if it has to, no ``lesion``."""
        known = [0, *self.classes.values(), *self.anatomy.values()]
        strange = label[~np.isin(label, known)]
        if strange.size:
            allowed = ", ".join(str(value) for value in sorted(known)[:-1]) + f" and {max(known)}"
            raise InputError(f"{role} must hold {allowed} only, it holds {strange[0]:g}.")
        if lesion and not self.lesion(label).any():
            wanted = ", ".join(f"{name} = {value}" for name, value in self.classes.items())
            empty = "is empty" if not label.any() else f"holds no lesion ({wanted})"
            raise InputError(f"{role} {empty}.")
