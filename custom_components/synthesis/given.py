"""Masks that the input brings along: a scan's own lesions, painted or repainted where they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..labels import LesionLabels
from .cases import SyntheticCase
from .composition import given_lesions

__all__ = ["GivenMasks"]


class GivenMasks:
    """Takes the lesions of each scan's label map.

    Args:
        labels: the meaning of the label maps.
    """

    def __init__(self, labels: LesionLabels) -> None:
        self.labels = labels

    def prepare(self, case: SyntheticCase) -> None:
        """Reads the masks of a case whose scan is in memory; InputError where they cannot be used."""
        case.lesions = given_lesions(case.scan, self.labels)

    def draw(self, cases: Sequence[SyntheticCase]) -> dict[str, Any]:
        """Nothing is left to draw."""
        return {}

    def finish(self, case: SyntheticCase, masks: Any) -> None:
        """Nothing is left to put together."""
