"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from custom_components.errors import InputError
from custom_components.files import check_free, check_writable, file_hash, lock_folder, write_atomically


def test_file_appears_whole_and_alone(tmp_path):
    target = tmp_path / "new" / "folder" / "a.nii.gz"
    during = []

    def write(path):
        path.write_text("whole")
        during.extend([path.name, target.exists()])

    write_atomically(target, write)
    assert target.read_text() == "whole"
    assert during[0].endswith("a.nii.gz")
    assert during[1] is False
    assert list(target.parent.iterdir()) == [target]


def test_file_is_replaced(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    write_atomically(str(target), lambda path: path.write_text("new"))
    assert target.read_text() == "new"


def test_reader_of_the_old_file_never_sees_a_half_new_one(tmp_path):
    """The new file takes the old one's place as a whole; what was opened before still reads the old content."""
    target = tmp_path / "a.txt"
    target.write_text("old content")
    with target.open() as reader:
        write_atomically(target, lambda path: path.write_text("new"))
        assert reader.read() == "old content"
    assert target.read_text() == "new"


def test_failing_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write(path):
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(target, write)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_hash_is_sha256_of_a_file_or_of_a_folder_s_files_in_order(tmp_path):
    (tmp_path / "b").write_bytes(b"second")
    (tmp_path / "a").write_bytes(b"first")
    assert file_hash(tmp_path / "a") == hashlib.sha256(b"first").hexdigest()
    assert file_hash(tmp_path) == hashlib.sha256(b"firstsecond").hexdigest()


def test_writable_folder_need_not_exist_yet(tmp_path):
    check_writable(tmp_path)
    check_writable(tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "folder"])
def test_file_in_the_folder_s_place_is_refused(tmp_path, below):
    (tmp_path / "taken").touch()
    with pytest.raises(InputError, match=r"output_dir .*taken"):
        check_writable(tmp_path / "taken" / below)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no file system at hand that refuses even a superuser")
def test_folder_that_the_file_system_refuses_is_told():
    with pytest.raises(InputError, match=r"output_dir /proc/results"):
        check_writable("/proc/results")


def test_two_processes_do_not_work_in_one_folder(tmp_path):
    folder = tmp_path / "work" / "new"
    with lock_folder(folder), pytest.raises(InputError, match=r"still at work in .*new"), lock_folder(folder):
        pass
    with lock_folder(folder):
        assert not any(folder.iterdir()), "a lock leaves no file"


def test_lock_lives_as_long_as_a_command_that_was_handed_it(tmp_path):
    """As a killed grid's training does: nobody else may go on with its folder until it is done."""
    with lock_folder(tmp_path) as descriptor:
        command = [sys.executable, "-c", "input()"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(descriptor,))
    with pytest.raises(InputError, match="still at work"), lock_folder(tmp_path):
        pass
    child.communicate(b"\n")
    with lock_folder(tmp_path):
        pass


@pytest.mark.parametrize("overwrite", [False, "false"])
def test_file_that_is_there_is_replaced_only_when_asked(tmp_path, overwrite):
    (tmp_path / "mine.json").touch()
    with pytest.raises(InputError, match="exists: pass overwrite"):
        check_free(tmp_path / "mine.json", overwrite)
    check_free(tmp_path / "mine.json", True)
    check_free(tmp_path / "new.json", overwrite)
