"""Errors that a user can act on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from custom_components.errors import InputError, as_flag, find_input_error


def wrapped(error: Exception, explicit: bool) -> Exception:
    """As MONAI's transforms and config parser raise: another error caused by the first."""
    try:
        try:
            raise error
        except Exception as inner:
            if explicit:
                raise RuntimeError("applying transform") from inner
            raise RuntimeError("applying transform")  # noqa: B904
    except RuntimeError as outer:
        return outer


def test_input_error_is_found_behind_what_wraps_it():
    error = InputError("mask is empty.")
    assert find_input_error(error) is error
    assert find_input_error(wrapped(error, explicit=True)) is error
    assert find_input_error(wrapped(wrapped(error, explicit=False), explicit=True)) is error


def test_other_errors_hold_none():
    assert find_input_error(None) is None
    assert find_input_error(wrapped(KeyError("x"), explicit=True)) is None


def test_loop_of_causes_ends():
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    assert find_input_error(first) is None


def run(statement: str, repo_root) -> subprocess.CompletedProcess:
    code = f"from custom_components.errors import *\ninstall_excepthook()\n{statement}\n"
    return subprocess.run([sys.executable, "-c", code], cwd=repo_root, capture_output=True, text=True, check=False)


def test_user_reads_one_sentence_and_the_exit_code_is_not_0(repo_root):
    result = run("raise InputError('mask.nii.gz is empty.')", repo_root)
    assert result.stderr == "error: mask.nii.gz is empty.\n"
    assert result.stdout == ""
    assert result.returncode == 1


def test_other_errors_keep_their_traceback(repo_root):
    result = run("raise KeyError('x')", repo_root)
    assert "Traceback" in result.stderr
    assert "KeyError: 'x'" in result.stderr
    assert result.returncode == 1


@pytest.mark.parametrize(("value", "flag"), [(True, True), (False, False), ("true", True), ("False", False)])
def test_flag_is_understood_as_a_value_and_as_a_word(value, flag):
    assert as_flag(value, "resume") is flag


@pytest.mark.parametrize("value", ["no", 2, None, ""])
def test_flag_that_is_neither_true_nor_false_is_refused_by_name(value):
    with pytest.raises(InputError, match="resume must be true or false"):
        as_flag(value, "resume")
