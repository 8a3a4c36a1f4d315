"""The command that checks a synthetic data set: what it prints, and how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from recorded_sets import write_scans, write_set

from lefusion_scripts import cli


@pytest.fixture
def root(tmp_path) -> Path:
    """A set of two cases with two lesions each."""
    write_set(tmp_path / "set", write_scans(tmp_path / "scans"), "nnunet")
    return tmp_path / "set"


def run(monkeypatch, *arguments: str | Path) -> int:
    """Exit code of the command in this process."""
    monkeypatch.setattr(sys, "argv", ["lefusion", "verify", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


def test_set_as_recorded_ends_with_0(root, monkeypatch, capsys):
    assert run(monkeypatch, root) == 0
    out, bar = capsys.readouterr()
    assert out == "2 cases, 4 lesions: all as recorded\n"
    assert "cases: 100%" in bar


def test_source_is_passed_on(root, monkeypatch, capsys):
    (root.parent / "scans").rename(root.parent / "elsewhere")
    assert run(monkeypatch, root) == 1
    assert run(monkeypatch, root, "--source", root.parent / "elsewhere") == 0


def test_folder_that_is_no_set_ends_with_2_and_a_sentence(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, tmp_path) == 2
    assert capsys.readouterr().err == f"error: {tmp_path} is no synthetic data set: it holds no manifest.jsonl.\n"


@pytest.mark.integration
def test_damaged_set_ends_with_1_and_a_line_for_each_finding(root):
    (root / "extras" / "panels" / "a.png").unlink()
    (root / "extras" / "sidecars" / "c.json").write_text("{}")
    process = subprocess.run(
        [sys.executable, "-m", "lefusion_scripts.cli", "verify", str(root), "--progress", "false"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert process.stderr == ""
    assert process.stdout.splitlines() == [
        "extras/sidecars/c.json  belongs to no case of the manifest.",
        "extras/panels/a.png     is missing.",
        "2 cases, 4 lesions: 2 findings",
    ]
