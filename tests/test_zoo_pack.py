"""Bundles become zips: what is in them, that they are the same every time, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch
from bundle_runs import BUNDLES
from zoo_bundles import NAME, command, edit_metadata, pack, small_bundle, version_of

from custom_components.errors import InputError
from lefusion_scripts.zoo_contents import Member, check_contents
from lefusion_scripts.zoo_files import bundle_files
from lefusion_scripts.zoo_record import version_order


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("original"))


@pytest.fixture
def root(original, tmp_path) -> Path:
    """A bundle that a test may change."""
    shutil.copytree(original.parents[1], tmp_path / "tree", symlinks=True)
    return tmp_path / "tree" / "bundles" / NAME


def members(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


# ---------------------------------------------------------------------------------------------- what is packed


def test_zip_holds_the_shared_code_as_files_and_nothing_left_behind(root, tmp_path):
    clean = members(pack(root, tmp_path / "clean"))
    for left in (
        "outputs/a.nii.gz",
        "runs/x/model.pt",
        "eval/summary.json",
        "models/checkpoints/latest.pt",
        "custom_components/__pycache__/losses.cpython-311.pyc",
        ".DS_Store",
        "events.out.tfevents.1",
    ):
        (root / left).parent.mkdir(parents=True, exist_ok=True)
        (root / left).write_bytes(b"left behind")
    assert members(pack(root, tmp_path / "dist")) == clean == sorted(clean)
    assert {f"{NAME}/custom_components/__init__.py", f"{NAME}/custom_components/handlers/saver.py"} < set(clean)
    with zipfile.ZipFile(tmp_path / "dist" / f"{NAME}_v{version_of(root)}.zip") as archive:
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o100644}
        for name in ("custom_components/losses.py", "models/model.pt", "configs/inference.json"):
            assert archive.read(f"{NAME}/{name}") == (root / name).read_bytes()


def test_zip_is_the_same_whatever_the_times_and_modes_of_the_files(root, tmp_path):
    first = pack(root, tmp_path / "first").read_bytes()
    for path in (root / "LICENSE", root / "models" / "model.pt", root / "custom_components" / "losses.py"):
        os.utime(path, (1, 1))
        path.chmod(0o600)
    os.utime(root / "configs", (1, 1))
    assert pack(root, tmp_path / "second").read_bytes() == first


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_checkout_gives_what_git_tracks_and_refuses_what_it_does_not_know(root, tmp_path):
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *arguments], cwd=root.parents[1], check=True, capture_output=True)

    expected = list(bundle_files(root))
    (root.parents[1] / ".gitignore").write_text("*.bak\n")
    git("init")
    git("add", ".")
    (root / "configs" / "mine.bak").write_text("ignored")
    assert list(bundle_files(root)) == expected
    (root / "custom_components" / "forgotten.py").write_text("")
    with pytest.raises(InputError, match=r"forgotten\.py is neither tracked nor ignored by git"):
        bundle_files(root)
    git("add", ".")
    assert list(bundle_files(root)) == sorted([*expected, "custom_components/forgotten.py"])
    (root / "LICENSE").unlink()
    with pytest.raises(InputError, match=r"LICENSE is tracked by git, but missing"):
        bundle_files(root)


def test_link_into_itself_is_refused(root):
    (root / "sample" / "again").symlink_to(root)
    with pytest.raises(InputError, match="again leads into itself"):
        bundle_files(root)


@pytest.mark.parametrize("name", sorted(path.parents[1].name for path in BUNDLES.glob("*/configs/metadata.json")))
def test_shipped_bundle_is_fit_for_the_zoo(name, tmp_path):
    shutil.copytree(BUNDLES / name, tmp_path / name)
    files = bundle_files(tmp_path / name)
    found = {key: Member(path.stat().st_size, path.read_bytes) for key, path in files.items()}
    assert check_contents(found, name) == []


# ------------------------------------------------------------------------------------------------ the records


def test_records_are_in_the_form_of_the_zoo_and_keep_other_zips(root, tmp_path):
    out = tmp_path / "dist"
    old, first = version_of(root), pack(root, out, url="https://example.org/zoo/")
    edit_metadata(root, version="9.10.0", changelog={"9.10.0": "another one"})
    second = pack(root, out)
    info = json.loads((out / "model_info.json").read_text())
    assert info == {
        f"{NAME}_v{old}": {
            "checksum": hashlib.sha1(first.read_bytes()).hexdigest(),
            "source": f"https://example.org/zoo/{first.name}",
        },
        f"{NAME}_v9.10.0": {"checksum": hashlib.sha1(second.read_bytes()).hexdigest(), "source": second.name},
    }
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in (first, second)]
    assert (out / "SHA256SUMS").read_text().splitlines() == lines


def test_versions_are_ordered_by_their_numbers():
    assert sorted(["0.10.0", "0.9.0", "1.0.0"], key=version_order) == ["0.9.0", "0.10.0", "1.0.0"]


# --------------------------------------------------------------------------------------- a version is never changed


def test_packing_again_leaves_the_zip_alone(root, tmp_path):
    path = pack(root, tmp_path / "dist")
    before = path.stat().st_mtime_ns
    pack(root, tmp_path / "dist")
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("forgotten", ["nothing", "the zip", "the records"])
def test_changed_contents_need_another_version(root, tmp_path, forgotten):
    path = pack(root, tmp_path / "dist")
    before = path.read_bytes()
    if forgotten == "the zip":
        path.unlink()
    elif forgotten == "the records":
        (path.parent / "model_info.json").unlink()
    (root / "custom_components" / "losses.py").write_text("# changed\n")
    with pytest.raises(InputError, match=rf"{NAME}_v.* has other contents than the one .*: raise the version"):
        pack(root, tmp_path / "dist")
    assert not path.exists() if forgotten == "the zip" else path.read_bytes() == before
    pack(root, tmp_path / "dist", overwrite=True)
    assert path.read_bytes() != before


def test_published_version_is_not_even_changed_when_asked(root, tmp_path):
    pack(root, tmp_path / "published")
    (root / "docs" / "README.md").write_text("changed")
    with pytest.raises(InputError, match=r"has other contents than the one in .*model_info\.json"):
        pack(root, tmp_path / "dist", overwrite=True, released=tmp_path / "published" / "model_info.json")
    assert not (tmp_path / "dist").exists()


# ----------------------------------------------------------------------------------------------- what is refused


def unlink(name):
    return lambda root: (root / name).unlink()


def write(name, text):
    return lambda root: (root / name).write_text(text)


REFUSED = {
    "no licence": (unlink("LICENSE"), "LICENSE is missing"),
    "no model card": (unlink("docs/README.md"), r"docs/README\.md is missing"),
    "no data licence": (unlink("docs/data_license.txt"), r"docs/data_license\.txt is missing"),
    "empty licence": (write("LICENSE", ""), "LICENSE is empty"),
    "no weights": (unlink("models/model.pt"), r"models/model\.pt is missing"),
    "broken config": (write("configs/train.json", '{"a": '), r"configs/train\.json does not parse"),
    "config that is a list": (write("configs/inference.json", "[1]"), r"configs/inference\.json does not parse"),
    "missing code": (
        unlink("custom_components/losses.py"),
        r"\w+\.json names custom_components\.losses, which is",
    ),
    "no changelog entry": (lambda root: edit_metadata(root, version="7.7.7"), r"no changelog entry .* '7\.7\.7'"),
    "no task": (lambda root: edit_metadata(root, task=None), "follow the schema at .*'task' is a required property"),
    "no version number": (lambda root: edit_metadata(root, version="new", changelog={"new": "a"}), "follow the schema"),
    "another name": (lambda root: edit_metadata(root, name="other"), "has the name 'other'"),
    "large file": (lambda root: (root / "sample" / "x.bin2").write_bytes(bytes(26 * 2**20)), "26.0 MB, more than"),
    "weights with code": (lambda root: torch.save(print, root / "models" / "model.pt"), "cannot be read as tensors"),
    "weights with words": (lambda root: torch.save({"a": "b"}, root / "models" / "b.pt"), "other things than tensors"),
}


@pytest.mark.parametrize(("spoil", "sentence"), REFUSED.values(), ids=REFUSED)
def test_bundle_that_the_zoo_would_not_take_is_refused(root, tmp_path, spoil, sentence):
    spoil(root)
    with pytest.raises(InputError, match=f"bundle {NAME}: .*{sentence}") as error:
        pack(root, tmp_path / "dist")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "dist").exists()


@pytest.mark.integration
def test_command_refuses_in_one_sentence(root, tmp_path):
    (root / "configs" / "train.json").write_text("{")
    process = command("pack", "--bundle", root, "--output", "dist", cwd=tmp_path)
    assert process.returncode == 2
    (line,) = process.stderr.splitlines()
    assert line.startswith(f"error: bundle {NAME}: configs/train.json does not parse")
    assert not (tmp_path / "dist").exists()
