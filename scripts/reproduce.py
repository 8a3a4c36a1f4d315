"""The paper's tables on the user's data: generators, synthetic sets and segmenters, cell by cell."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_components.control_pictures import save_crop_grid
from custom_components.errors import InputError, as_flag
from custom_components.files import lock_folder, write_atomically
from custom_components.labels import LesionLabels
from custom_components.metrics.features import choose_features
from custom_components.reproduction.budgets import Budget, read_budget
from custom_components.reproduction.cells import Cell
from custom_components.reproduction.costs import Costs, duration
from custom_components.reproduction.entries import collect
from custom_components.reproduction.experiments import find_experiment, read_experiments
from custom_components.reproduction.folds import write_folds
from custom_components.reproduction.grid import list_cells
from custom_components.reproduction.measured_costs import measure_costs
from custom_components.reproduction.paper import PaperTable, read_table, table_names
from custom_components.reproduction.plan import Plan
from custom_components.reproduction.plots import save_plot
from custom_components.reproduction.repainted import repainted_lesions
from custom_components.reproduction.runner import run_cells
from custom_components.reproduction.tables import as_csv, as_markdown, as_text
from custom_components.reproduction.work_folder import check_options, claim

FAILED = 3  # exit code where some cells failed


def reproduce(
    table: Any,
    data: str,
    work: str,
    seeds: int = 3,
    folds: int = 1,
    budget: str = "paper",
    methods: Any = None,
    settings: Any = None,
    segmenters: Any = None,
    dataset: str | None = None,
    features: str = "lesion",
    threads: int = 1,
    dry_run: bool = False,
    measure: bool = True,
    progress: bool = True,
) -> None:
    """Make one of the paper's tables from the data in DATA, beside the paper's own numbers.

    Each generator, synthetic set and training of a segmenter is a cell, a folder below WORK with its commands
    (cell.json), log and result (result.json, written last). The same command again completes what is missing, whatever
    stopped it. A cell that fails is told and left, the others go on, and the exit code is 3. Tables share their cells.

    Args:
        table: 1 (lung, Dice and NSD), 2 and A1 (heart, Dice; NSD), A2, A3 and A4 (image quality).
        data: folder with Pathological/ and Normal/ as ``lefusion prepare lidc`` or ``prepare emidec`` write them.
        work: folder of the grid; the tables go to WORK/tables.
        seeds: trainings of each segmenter in each setting.
        folds: 1 holds out the data set's test cases, or 20 % of the patients where it tells none; N deals the patients
            into N parts, each held out once. What is held out, no generator or segmenter learns from.
        budget: paper (GPUs), small (hours to days of one CPU core), shipped (lung only: what the weights that come with
            the bundles give, without training a generator), tiny (a try-out whose numbers mean nothing), or a JSON file
            of the same form.
        methods: of the table, such as lefusion_h,copy_paste; all by default.
        settings: rows of the table, named as their folders: P, P+lefusion_h-given-P1, ... (the method in A2 to A4).
        segmenters: dynunet (nnU-Net's architecture), swinunetr; those that the budget knows by default.
        dataset: lidc or emidec; by default told by the labels of DATA.
        features: by which sets are compared in A3 and A4: lesion, a TorchScript file or package.module:callable.
        threads: of PyTorch in each process.
        dry_run: show the cells, which are done and what the others will cost, and run none.
        measure: with --dry_run, run a few steps of each training to measure what a step costs.
        progress: show a bar.
    """
    dry, progress = as_flag(dry_run, "dry_run"), as_flag(progress, "progress")
    for name, value in (("seeds", seeds), ("folds", folds), ("threads", threads)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be a whole number above 0, got {value!r}.")
    data_, work_ = Path(str(data)).absolute(), Path(str(work)).absolute()
    paper = _table(str(table), data_, dataset)
    experiment, chosen = read_experiments()[paper.dataset], read_budget(str(budget))
    options = {"data": str(data_), "folds": folds, "budget": chosen.content, "features": str(features)}
    options["threads"] = threads  # the last bits of a result depend on it
    if features != "lesion" and paper.kind == "quality":
        choose_features(str(features))  # told now, not after the painting
    names = list(chosen.segmenters(experiment.name)) if segmenters is None else _words(segmenters)
    for name in names:
        chosen.segmenter(experiment.name, name)
    begun = check_options(work_, experiment.name, options)
    methods, settings = (None if given is None else _words(given) for given in (methods, settings))
    methods = _fair(chosen, paper, methods)

    def plan_in(folder: Path) -> Plan:
        labels, normals = LesionLabels(experiment.classes), paper.kind == "segmentation"
        learnt = chosen.trained_on(experiment.name) or ()
        dealt = write_folds(data_, folder, labels, folds, chosen.val_fraction, experiment.organ, normals, learnt)
        return Plan(work_, experiment, chosen, dealt, seeds, names, methods, settings, threads, str(features))

    if dry or not begun:  # what is wrong is told before anything is written
        with tempfile.TemporaryDirectory() as folder:
            plan = plan_in(Path(folder))
            cells = list_cells(plan, paper)
            if dry:
                _show(cells, plan, as_flag(measure, "measure"))
                return
    with lock_folder(work_) as lock:
        claim(work_, experiment.name, options)
        plan = plan_in(work_ / "folds" / experiment.name)
        cells = list_cells(plan, paper)
        failures = run_cells(cells, work_, threads, lock, progress)
        _write_table(plan, paper)
    if failures:
        print(f"{len(failures)} of {len(cells)} cells failed; the same command tries them again:", file=sys.stderr)
        for name, reason in failures.items():
            print(f"  {name}: {reason}", file=sys.stderr)
        sys.exit(FAILED)


def _table(name: str, data: Path, dataset: str | None) -> PaperTable:
    known = table_names()
    if name not in known:
        raise InputError(f"table must be one of {', '.join(known)}, got {name!r}.")
    if dataset is None:
        found = find_experiment(data)
        if found.name not in known[name]:
            raise InputError(
                f"table {name} is of {' and '.join(known[name])}; the labels in {data} are those of {found.title}."
            )
        dataset = found.name
    return read_table(name, str(dataset))


def _fair(budget: Budget, paper: PaperTable, methods: list[str] | None) -> list[str] | None:
    """The methods asked for, or those of the table that the budget compares; InputError for others."""
    compared = budget.compared(paper.dataset)
    if compared is None:
        return methods
    for name in methods or ():
        if name not in compared:
            raise InputError(f"budget {budget.name} compares {', '.join(compared)} only, not {name}.")
    return methods or [name for name in compared if any(name in row.methods for row in paper.rows)]


def _words(value: Any) -> list[str]:
    parts = value.strip("[]() ").split(",") if isinstance(value, str) else value
    names = [str(part).strip(" '\"") for part in parts] if isinstance(parts, Sequence) else []
    if not any(names):
        raise InputError(f"methods, settings and segmenters are names with commas between them, got {value!r}.")
    return list(dict.fromkeys(name for name in names if name))


def _show(cells: Sequence[Cell], plan: Plan, measure: bool) -> None:
    """Prints the cells and what is left to pay."""
    measured = measure_costs(cells, plan.work, plan.threads) if measure else {}
    costs = Costs(plan.work, cells, measured)
    unknown = 0
    for cell in cells:
        result, cost = cell.result(plan.work), costs.of(cell)
        state = "done" if result else f"about {duration(cost)}" if cost is not None else "cost unknown"
        unknown += result is None and cost is None
        print(f"{state:>16}  {cell.id}")
    open_cells = [cell for cell in cells if cell.result(plan.work) is None]
    left = sum(costs.of(cell) or 0.0 for cell in open_cells)
    rest = f", and {unknown} cell{'s' * (unknown > 1)} of unknown cost" if unknown else ""
    print(f"{len(cells)} cells, {len(cells) - len(open_cells)} done; left: about {duration(left)}{rest}, one by one")


def _write_table(plan: Plan, paper: PaperTable) -> None:
    results = collect(plan, paper)
    target = plan.work / "tables"
    name = f"table_{paper.name}_{paper.dataset}"
    for suffix, text in ((".md", as_markdown(results)), (".csv", as_csv(results))):
        write_atomically(target / (name + suffix), lambda path, text=text: path.write_text(text, encoding="utf-8"))
    write_atomically(target / f"{name}.png", lambda path: save_plot(results, path))
    repainted = repainted_lesions(plan, results.rows) if paper.kind == "quality" else None
    if repainted is not None:
        write_atomically(target / f"repainted_{paper.dataset}.png", lambda path: save_crop_grid(*repainted, path))
    print(as_text(results))
    for note in results.notes:
        print(f"- {note}")
    also = "" if repainted is None else f", and repainted_{paper.dataset}.png,"
    print(f"wrote {name}.md, .csv and .png{also} to {target}")
