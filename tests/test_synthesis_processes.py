"""`lefusion synthesize` in processes of its own: under torchrun, killed, and with failing scans."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from synthesis_runs import contents, make, save_painter, start, words
from synthetic_chests import save_chests

pytestmark = pytest.mark.integration

GIVEN = {"lesions": "1-2", "radius": "5-8", "cases_per_scan": 2, "group_size": 1}
CASES = ["a_s1", "a_s2", "b_s1", "b_s2"]


@pytest.fixture(scope="module")
def painter(tmp_path_factory) -> dict:
    return save_painter(tmp_path_factory.mktemp("painter"))


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    return save_chests(tmp_path_factory.mktemp("scans"), "ab")


@pytest.fixture(scope="module")
def expected(painter, scans, tmp_path_factory) -> dict[str, bytes]:
    """What one process, never interrupted, makes."""
    root = tmp_path_factory.mktemp("alone") / "set"
    make(scans, root, painter, **GIVEN)
    made = contents(root)
    assert [json.loads(line)["case"] for line in made["manifest.jsonl"].splitlines()] == CASES
    return made


def test_two_processes_make_the_same_bytes_as_one(painter, scans, expected, tmp_path):
    process = start(words(scans, tmp_path / "set", painter, **GIVEN), processes=2)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-3000:]
    assert "cases of process 1 of 2" in errors
    assert contents(tmp_path / "set") == expected
    assert "a_s1" in (tmp_path / "set" / "gallery.html").read_text()


def test_a_killed_run_is_completed_by_the_same_command(painter, scans, expected, tmp_path):
    root = tmp_path / "set"
    process = start(words(scans, root, painter, **GIVEN))
    deadline = time.monotonic() + 300
    while not list(root.glob("sidecars/*.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    complete = {path.stem for path in root.glob("sidecars/*.json")}
    assert complete and complete < set(CASES), "killed in the middle"
    assert not (root / "manifest.jsonl").exists()
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*.nii.gz") if path.name.split(".")[0] in complete}
    (root / "labels" / ".partial-1-1-b_s2.nii.gz").write_bytes(b"half of a file")
    assert make(scans, root, painter, **GIVEN) == []
    assert contents(root) == expected
    assert {path: path.stat().st_mtime_ns for path in times} == times, "what was complete is left alone"


def test_failing_scans_give_exit_code_3_and_wrong_options_2(painter, scans, tmp_path):
    folder = save_chests(tmp_path / "in", "a")
    (folder / "broken.nii.gz").write_bytes(b"no scan")
    first = start(words(folder, tmp_path / "set", painter, radius=6))
    second = start(words(scans, tmp_path / "none", painter, lesions="0"))
    _, errors = first.communicate(timeout=600)
    assert first.returncode == 3
    assert "case broken is skipped: cannot read" in errors and "1 case failed" in errors
    assert "Traceback" not in errors
    assert (tmp_path / "set" / "images" / "a.nii.gz").is_file()
    _, errors = second.communicate(timeout=600)
    assert second.returncode == 2 and errors.startswith("error: lesions must be")
    assert not (tmp_path / "none").exists()
