"""Running a grid: what is missing is done, what fails is told, what is killed goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from custom_components.errors import InputError
from custom_components.reproduction.cells import Cell, Step
from custom_components.reproduction.costs import Costs, duration
from custom_components.reproduction.measured_costs import read_bar
from custom_components.reproduction.runner import run_cells
from custom_components.reproduction.work_folder import check_options, claim

# A command that counts how often it ran, waits or fails as it is told.
COMMAND = """
import os, pathlib, sys, time
out = pathlib.Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
with open(out / "ran", "a") as stream:
    stream.write("x")
for word in sys.argv[2:]:
    if word.startswith("wait:") and pathlib.Path(word[5:]).exists():
        time.sleep(60)
    if word.startswith("fail:") and pathlib.Path(word[5:]).exists():
        print("some log")
        print("error: the disc is full.")
        print("training: 3%|", end="\\r")
        sys.exit(2)
    if word == "raise":
        raise KeyError("lost")
print(os.environ["OMP_NUM_THREADS"])
"""

RUN = """
import sys
from pathlib import Path
from test_reproduction_runner import three_cells
from custom_components.reproduction.runner import run_cells
run_cells(three_cells(Path(sys.argv[1]), Path(sys.argv[2])), Path(sys.argv[1]), progress=False)
"""


@pytest.fixture
def command(tmp_path_factory, monkeypatch) -> None:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "counting.py").write_text(COMMAND)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(Path(__file__).parent)]))


def cell(work: Path, id_: str, *words: str, needs: tuple[str, ...] = (), steps: int = 1) -> Cell:
    made = [Step(f"step_{n}", (str(work / id_ / str(n)), *words), "counting") for n in range(steps)]
    return Cell(id_, tuple(made), needs, {"seed": 0}, like=id_.split("/")[0])


def three_cells(work: Path, mark: Path) -> list[Cell]:
    """The second waits in its second step while the mark is there."""
    second = cell(work, "set/b", needs=("set/a",), steps=2)
    waiting = Step("step_1", (*second.steps[1].arguments, f"wait:{mark}"), "counting")
    second = Cell(second.id, (second.steps[0], waiting), second.needs, {}, like="set")
    return [cell(work, "set/a"), second, cell(work, "set/c")]


def runs(work: Path, id_: str, step: int = 0) -> int:
    path = work / id_ / str(step) / "ran"
    return len(path.read_text()) if path.is_file() else 0


def test_every_cell_records_its_commands_and_ends_with_its_result(command, tmp_path):
    assert run_cells([cell(tmp_path, "set/a")], tmp_path, threads=3, progress=False) == {}
    record = json.loads((tmp_path / "set/a/cell.json").read_text())
    assert record["commands"] == {"step_0": ["-m", "counting", str(tmp_path / "set/a/0")]}
    assert record["about"] == {"seed": 0} and record["revision"] and record["version"]
    result = json.loads((tmp_path / "set/a/result.json").read_text())
    assert result["seconds"] > 0
    assert (tmp_path / "set/a/log.txt").read_text().splitlines()[-1] == "3"
    assert (tmp_path / "set/a/result.json").stat().st_mtime_ns >= (tmp_path / "set/a/log.txt").stat().st_mtime_ns


def test_a_failed_cell_is_told_the_others_go_on_and_a_rerun_tries_it_again(command, tmp_path, capfd):
    mark = tmp_path / "mark"
    mark.touch()
    cells = [
        cell(tmp_path, "set/a", f"fail:{mark}"),
        cell(tmp_path, "set/b"),
        cell(tmp_path, "set/c", needs=("set/a",)),
    ]
    failures = run_cells(cells, tmp_path, progress=False)
    assert failures["set/a"].startswith("the disc is full. (exit code 2")
    assert str(tmp_path / "set/a/log.txt") in failures["set/a"]
    assert failures["set/c"] == "it needs set/a"
    assert "set/a failed: the disc is full." in capfd.readouterr().err
    assert [runs(tmp_path, f"set/{name}") for name in "abc"] == [1, 1, 0]
    assert not (tmp_path / "set/a/result.json").exists()
    mark.unlink()
    assert run_cells(cells, tmp_path, progress=False) == {}
    assert [runs(tmp_path, f"set/{name}") for name in "abc"] == [2, 1, 1]


def test_of_a_traceback_the_first_exception_is_told(command, tmp_path):
    failures = run_cells([cell(tmp_path, "set/a", "raise")], tmp_path, progress=False)
    assert failures["set/a"].startswith("KeyError: 'lost' (exit code 1")


def test_a_killed_grid_is_completed_without_doing_anything_twice(command, tmp_path):
    work, mark = tmp_path / "work", tmp_path / "mark"
    mark.touch()
    process = subprocess.Popen([sys.executable, "-c", RUN, str(work), str(mark)], start_new_session=True)
    deadline = time.monotonic() + 120
    while not runs(work, "set/b", 1):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert (work / "set/a/result.json").is_file() and not (work / "set/b/result.json").exists()
    mark.unlink()
    assert run_cells(three_cells(work, mark), work, progress=False) == {}
    assert [runs(work, "set/a"), runs(work, "set/b", 0), runs(work, "set/b", 1), runs(work, "set/c")] == [1, 1, 2, 1]


def test_a_training_goes_on_from_its_checkpoint(command, tmp_path):
    folder = tmp_path / "generator/a"
    latest = folder / "checkpoints" / "checkpoint_latest.pt"
    latest.parent.mkdir(parents=True)
    latest.touch()
    step = Step("train", (str(folder / "0"),), "counting", checkpoint=latest)
    assert run_cells([Cell("generator/a", (step,))], tmp_path, progress=False) == {}
    assert "--resume true" in (folder / "log.txt").read_text()
    assert not latest.exists(), "of no more use"


def test_what_another_command_has_begun_is_removed(command, tmp_path):
    mark, output = tmp_path / "mark", tmp_path / "set/a" / "set"
    mark.touch()
    output.mkdir(parents=True)
    (output / "half").touch()

    def made(word: str) -> list[Cell]:
        step = Step("step_0", (str(tmp_path / "set/a/0"), f"fail:{mark}", word), "counting", output=output)
        return [Cell("set/a", (step,))]

    assert "set/a" in run_cells(made("old"), tmp_path, progress=False)
    assert "set/a" in run_cells(made("old"), tmp_path, progress=False)
    assert (output / "half").exists(), "the same command goes on from it"
    mark.unlink()
    assert run_cells(made("new"), tmp_path, progress=False) == {}
    assert not output.exists()


def test_what_a_changed_step_wrote_is_read_anew_by_the_steps_after_it(command, tmp_path):
    mark, output = tmp_path / "mark", tmp_path / "set/a" / "network"
    mark.touch()

    def made(word: str) -> list[Cell]:
        words = [(word,), (), (f"fail:{mark}",)]
        steps = [Step(f"step_{n}", (str(tmp_path / f"set/a/{n}"), *words[n]), "counting") for n in range(3)]
        return [Cell("set/a", (steps[0], replace(steps[1], output=output), steps[2]))]

    assert "set/a" in run_cells(made("old"), tmp_path, progress=False)
    output.mkdir()
    mark.unlink()
    assert run_cells(made("new"), tmp_path, progress=False) == {}
    assert [runs(tmp_path, "set/a", n) for n in range(3)] == [2, 2, 2]
    assert not output.exists(), "nothing goes on from what was made of the earlier step"


def test_options_that_change_results_are_refused(tmp_path):
    options = {"folds": 2, "budget": {"steps": 10}}
    check_options(tmp_path / "work", "lidc", options)
    claim(tmp_path / "work", "lidc", options)
    check_options(tmp_path / "work", "lidc", options)
    check_options(tmp_path / "work", "emidec", {"folds": 5})
    with pytest.raises(InputError, match="folds now has 3, before it was 2"):
        check_options(tmp_path / "work", "lidc", {**options, "folds": 3})
    with pytest.raises(InputError, match="budget now has another content"):
        check_options(tmp_path / "work", "lidc", {**options, "budget": {"steps": 11}})


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "photo.png").touch()
    with pytest.raises(InputError, match="holds no grid"):
        claim(tmp_path, "lidc", {})


def test_costs_are_those_of_complete_cells_of_the_kind(tmp_path):
    done = Cell("set/a", (), like="set/x", units=10)
    (tmp_path / "set/a").mkdir(parents=True)
    (tmp_path / "set/a/result.json").write_text('{"seconds": 50}')
    costs = Costs(tmp_path, [done], {"generator/y": (0.5, 6.0)})
    assert costs.of(Cell("set/b", (), like="set/x", units=4)) == 20
    assert costs.of(Cell("generator/c", (), like="generator/y", units=100)) == 56
    assert costs.of(Cell("quality/d", (), like="quality/x")) is None
    assert [duration(seconds) for seconds in (40, 600, 9000, 864000)] == ["40 s", "10 min", "2.5 h", "10 d"]


def test_steps_and_seconds_are_read_from_a_progress_bar(tmp_path):
    bar = "training:   0%|   | 0/40 [00:00<?, ?it/s]\rtraining:  10%|#  | 4/40 [00:08<01:12, epoch=1]\r"
    (tmp_path / "log").write_text(bar + "training:  30%|###  | 12/40 [01:00:08<00:40, epoch=1]\r")
    assert read_bar(tmp_path / "log") == [(4, 8.0), (12, 3608.0)]
