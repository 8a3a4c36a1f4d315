"""From scans to a set: group after group of cases, sites, masks, lesions, files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..errors import InputError
from ..files import check_writable, lock_folder
from ..gallery import write_gallery
from ..lesion_library import LesionLibrary
from .cases import GroupScans, SyntheticCase, list_synthetic_cases
from .copying import CopiedMasks, WallCopies
from .drawing import MaskDrawer, SphereDrawer
from .engines import BundleEngine
from .given import GivenMasks
from .layouts import make_layout
from .options import SynthesisOptions, fix_by_set
from .painting import LesionPainter
from .processes import Processes
from .records import read_run
from .scans import find_organs, find_scans
from .set_folder import SetFolder
from .writing import CaseWriter

__all__ = ["Synthesis", "replay_case", "synthesise"]

# Called after each case with the error that made it fail, or None.
Report = Callable[[SyntheticCase, Exception | None], None]


class Synthesis:
    """Everything that is read, checked and loaded once for a set.

    Args:
        options: of the synthesis.
        cases_given: whether ``cases_per_scan`` was asked for.
        device: where the networks run; None leaves it to the configs.

    Raises:
        InputError: for the first thing that is wrong with the options, the input, the bundles or their weights.
    """

    def __init__(self, options: SynthesisOptions, cases_given: bool = False, device: Any = None) -> None:
        self.painting = BundleEngine(options.bundle, options.config, options.overrides, device)
        self.labels = self.painting.labels
        self.options = options = fix_by_set(options, self.labels.joint, cases_given)
        settings = self.painting.synthesis_settings()
        scans = find_scans(options.input, labelled=options.masks == "given")
        drawn, find_organ = options.masks != "given", settings["find_organ"]
        organs = {}
        if options.organ_mask is not None:
            organs, find_organ = find_organs(scans, options.organ_mask), None
        elif drawn and self.labels.anatomy:  # the scans' own label maps show the organ
            organs = {scan.name: scan.label for scan in scans if scan.label is not None}
        if drawn and find_organ is None and not organs:
            name = settings["organ_name"]
            raise InputError(
                f"bundle {options.bundle} does not find the {name} itself: --organ_mask must give its masks."
            )
        scans = [replace(scan, organ=organs.get(scan.name)) for scan in scans]
        self.cases = list_synthetic_cases(scans, options.cases_per_scan)
        self.layout = make_layout(
            options.layout,
            options.output,
            self.labels,
            options.title,
            modality=self.painting.modality,
            source=options.input,
        )
        self.drawing = self._mask_engine(settings["mask_config"], device)
        self.painter = LesionPainter(options, self.painting)
        self.weights = {"painting": None if options.copies_values else self.painting.weights(), "masks": None}
        if options.masks == "diffmask":
            self.weights["masks"] = self.drawing.weights()
        organ_labels = options.organ_labels
        if organ_labels is None and self.drawing is not None and self.drawing.value("organ_labels") is not None:
            organ_labels = tuple(self.drawing.value("organ_labels"))
        self.scans = GroupScans(
            self.labels, find_organ, settings["organ_name"], organ_labels, self.painting.value("air_below_hu"), drawn
        )
        self.masks = self._mask_source(settings["site_gaps"])

    def _mask_engine(self, overlays: Sequence[str], device: Any) -> BundleEngine | None:
        """The bundle whose config says how lesions lie, and that draws masks where any are drawn."""
        options = self.options
        if options.masks == "given":
            return None
        overlays = list(overlays if options.mask_config is None else options.mask_config)
        overlays += ["hand_crafted"] if options.masks == "handcrafted" else []
        engine = BundleEngine(options.mask_bundle, overlays, options.mask_overrides, device)
        values = list(engine.value("class_labels"))
        if len(values) != len(self.labels.classes):
            raise InputError(
                f"bundle {options.mask_bundle} draws masks of {len(values)} classes, bundle {options.bundle} paints "
                f"{len(self.labels.classes)}: another --mask_config is needed."
            )
        return engine

    def _mask_source(self, site_gaps: str | None) -> Any:
        options = self.options
        if options.masks == "given":
            return GivenMasks(self.labels)
        crop = None if self.labels.joint else (self.painting.value("spatial_size"), self.painting.value("spacing_mm"))
        library = None if options.library is None else LesionLibrary(options.library, self.labels)
        if library is not None and self.labels.joint:
            return WallCopies(options, library, self.labels)
        gaps = None if site_gaps is None else self.drawing.root / "configs" / site_gaps
        spheres = SphereDrawer(options, self.drawing, crop, gaps, self.painting.value("air_below_hu") is not None)
        if library is not None:
            return CopiedMasks(options, library, self.labels, spheres)
        return MaskDrawer(options, self.drawing, self.labels, spheres)

    def load(self) -> None:
        """Loads the networks."""
        if self.drawing is not None and self.options.masks in ("diffmask", "handcrafted"):
            self.drawing.load_network()
        if not self.options.copies_values:
            self.painting.load_network()

    @property
    def record(self) -> dict[str, Any]:
        """What ``synthesis.json`` tells of the command."""
        options = self.options
        return {
            "command": options.as_dict(),
            "input": options.input,
            "organ_mask": options.organ_mask,
            "layout": options.layout,
            "title": options.title,
            "lesion_classes": dict(self.labels.classes),
            "modality": self.painting.modality,
            "weights": self.weights,
            "background": self.painter.background,
        }

    @property
    def groups(self) -> list[list[SyntheticCase]]:
        """The cases in groups, whose composition does not depend on processes or on what is complete already."""
        size = self.options.group_size
        return [self.cases[start : start + size] for start in range(0, len(self.cases), size)]

    def make(self, group: Sequence[SyntheticCase], wanted: set[str], report: Report) -> None:
        """Makes the cases of a group and writes those that are wanted.

        Cases that are not wanted take part because results depend, in their last bits, on what shares a batch.
        """
        facts = {"mask_source": self.options.masks, "set": self.options.set, "mask_weights": self.weights["masks"]}
        writer = CaseWriter(self.layout, facts, wanted)
        cases = _those_that_can(self._prepare, [case.fresh() for case in group], report)
        masks = self.masks.draw(cases)
        cases = _those_that_can(lambda case: self.masks.finish(case, masks.get(case.name)), cases, report)
        cases = _those_that_can(self.painter.plan, cases, report)
        self.painter.paint(cases, writer, report)
        self.scans.clear()

    def _prepare(self, case: SyntheticCase) -> None:
        loaded = self.scans(case.scan)
        case.image, case.organ = loaded.image, loaded.organ
        self.masks.prepare(case)


def _those_that_can(
    step: Callable[[SyntheticCase], None], cases: Sequence[SyntheticCase], report: Report
) -> list[SyntheticCase]:
    """Takes a step with every case; those that fail are reported and left out."""
    able = []
    for case in cases:
        try:
            step(case)
        except (InputError, OSError) as error:
            report(case, error)
        else:
            able.append(case)
    return able


def synthesise(
    options: SynthesisOptions,
    overwrite: bool = False,
    cases_given: bool = False,
    progress: bool = True,
    gallery: bool = True,
) -> list[dict[str, str]]:
    """Makes a set, or completes the one that the same command began; the failures of all processes.

    Args:
        options: of the synthesis.
        overwrite: begin anew.
        cases_given: whether ``cases_per_scan`` was asked for.
        progress: show a bar.
        gallery: show the set on a page at the end.

    Returns:
        ``{"case", "error"}`` of each case that failed.

    Raises:
        InputError: for whatever is wrong with the command, before any work.
    """
    with Processes(options.threads) as processes, ExitStack() as held:
        synthesis = Synthesis(options, cases_given, processes.device)
        folder = SetFolder(options.output, synthesis.layout)
        error = None
        if processes.first:
            try:
                held.enter_context(lock_folder(options.output))
                folder.begin(synthesis.record, overwrite)
            except InputError as wrong:
                error = str(wrong)
        error = processes.after_first(error)
        if error is not None:
            raise InputError(error)
        pending = {case.name for case in synthesis.cases if not folder.is_complete(case.name)}
        own = synthesis.groups[processes.rank :: processes.count]
        groups = [group for group in own if any(case.name in pending for case in group)]
        if groups:
            synthesis.load()
        if processes.first and len(pending) < len(synthesis.cases):
            print(f"{len(synthesis.cases) - len(pending)} of {len(synthesis.cases)} cases are complete already")
        failures: list[dict[str, str]] = []
        total = sum(case.name in pending for group in groups for case in group)
        words = "cases" if processes.count == 1 else f"cases of process 1 of {processes.count}"
        shown = progress and processes.first and total > 0
        with tqdm(total=total, desc=words, unit="case", disable=not shown) as bar:

            def report(case: SyntheticCase, wrong: Exception | None) -> None:
                if case.name not in pending:
                    return
                if wrong is not None:
                    folder.remove(case.name)
                    failures.append({"case": case.name, "error": str(wrong)})
                    bar.write(f"case {case.name} is skipped: {wrong}", file=sys.stderr)
                bar.update()

            for group in groups:
                synthesis.make(group, pending, report)
        failures = sorted(processes.gather(failures), key=lambda failure: failure["case"])
        if processes.first:
            records = folder.finish([case.name for case in synthesis.cases], failures)
            if gallery and records:
                write_gallery(options.output)
        processes.gather([])  # the set is whole when any process ends
    return failures


def replay_case(
    root: str | Path, case: str, output_dir: str | Path, source: str | Path | None = None
) -> dict[str, Path]:
    """Makes one case of a finished set again, elsewhere, from the record of its run: the same bytes on one machine.

    Args:
        root: folder of the set.
        case: its name.
        output_dir: an empty folder for its files.
        source: the input, where it has moved.

    Returns:
        The files of the case by role.

    Raises:
        InputError: where the record is missing or the set has no such case, and for whatever makes the case fail.
    """
    command = read_run(root).get("command")
    try:
        options = SynthesisOptions.from_dict(command)
    except (TypeError, AttributeError) as error:
        raise InputError(f"the record of the run in {root} tells of no command that can be run again.") from error
    options = replace(options, output=str(output_dir), **({} if source is None else {"input": str(source)}))
    check_writable(output_dir)
    with Processes(options.threads, alone=True):
        synthesis = Synthesis(options)
        group = next((group for group in synthesis.groups if any(one.name == case for one in group)), None)
        if group is None:
            raise InputError(f"{options.input} has no scan for case {case}.")
        synthesis.load()

        def report(made: SyntheticCase, wrong: Exception | None) -> None:
            if made.name == case and wrong is not None:
                raise InputError(f"case {case} cannot be made again: {wrong}") from wrong

        synthesis.make(group, {case}, report)
    return synthesis.layout.paths(case)
