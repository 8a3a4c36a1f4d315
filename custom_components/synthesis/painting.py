"""Lesions painted into the masks of a group's cases by the painting bundle."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Sequence
from typing import Any

from ..backgrounds import check_paste
from ..planning import check_texture
from .cases import SyntheticCase
from .copying import CopiedCaseSaver
from .engines import BundleEngine
from .options import SynthesisOptions
from .writing import CaseWriter, SyntheticCaseSaver

__all__ = ["LesionPainter"]

COPYING = f"{CopiedCaseSaver.__module__}.{CopiedCaseSaver.__name__}"
SAVER = {  # in place of the bundle's own, whose other arguments stay
    "_target_": f"{SyntheticCaseSaver.__module__}.{SyntheticCaseSaver.__name__}",
    "cases": "@synthetic_cases",
    "writer": "@case_writer",
    "on_finish": "@on_finish",
}


class LesionPainter:
    """Plans and paints lesions with the painting bundle's own planner, evaluator and saver.

    Args:
        options: of the synthesis.
        engine: the painting bundle, its network loaded.

    Raises:
        InputError: for a texture that the bundle does not know, or crops pasted whole that it does not generate.
    """

    def __init__(self, options: SynthesisOptions, engine: BundleEngine) -> None:
        self.engine, self.runs, self.saver = engine, not options.copies_values, SAVER
        if options.copies_values:
            self.saver = {
                **SAVER,
                "_target_": COPYING,
                "weights": None,
                "settings": {"seed": options.seed},
                "paste": "lesion",
            }
        for key, value in _settings(options).items():
            engine.parser[key] = value
        engine.load("conditioner", "window")
        self.labels = engine.labels
        paste, background = engine.value("paste", "lesion"), engine.value("background", "scan")
        check_paste(paste, background)
        self.background = background if paste == "crop" and self.runs else "scan"
        check_texture(engine.value("texture"), engine.loaded["conditioner"], self.labels)
        engine.parser["cases"] = ()
        engine.parser["lesions#_mode_"] = "callable"
        self.plan_lesions: Callable[..., list[dict[str, Any]]] = engine.value("lesions")

    def plan(self, case: SyntheticCase) -> None:
        """Specifies the lesions of a case whose masks are there.

        Raises:
            InputError: where a lesion does not fit into the crop, or as the planner.
        """
        entry = {"case": case.name, "image": case.scan.image, "label": case.scan.image, "lesions": case.lesions}
        case.items = self.plan_lesions(cases=[entry])

    def paint(
        self,
        cases: Sequence[SyntheticCase],
        writer: CaseWriter,
        on_finish: Callable[[SyntheticCase, Exception | None], None],
    ) -> None:
        """Paints planned cases, batches composed over all of them, and has each written once it is complete."""
        items = [item for case in cases for item in case.items]
        held: dict[str, Any] = {
            "lesions": tuple({**item, "index": index} for index, item in enumerate(items)),
            "synthetic_cases": UserDict({case.name: case for case in cases}),
            "case_writer": writer,
            "on_finish": on_finish,
        }
        self.engine.evaluate(self.saver, run=self.runs, **held)


def _settings(options: SynthesisOptions) -> dict[str, Any]:
    """Keys of the painting config that have options of their own."""
    own = {
        "texture": options.texture,
        "seed": options.seed,
        "batch_size": options.batch_size,
        "panel": options.panel,
        "output_dir": options.output,
        "overwrite": True,  # a case that is made again replaces what an interrupted run left of it
    }
    return own if options.texture_weights is None else {**own, "texture_weights": dict(options.texture_weights)}
