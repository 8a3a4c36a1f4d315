"""What the commands ``lefusion zoo verify`` and ``pack`` refuse, as a person sees it: one sentence and an exit code."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from zoo_bundles import (
    NAME,
    command,
    edit_metadata,
    pack,
    rewrite,
    small_bundle,
    version_of,
    zipped_fixture,  # noqa: F401 (a fixture)
)

from lefusion_scripts import cli


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("original"))


@pytest.fixture(scope="module")
def packed(original, tmp_path_factory) -> Path:
    return pack(original, tmp_path_factory.mktemp("packed"))


@pytest.fixture
def root(original, tmp_path) -> Path:
    """A bundle that a test may change."""
    shutil.copytree(original.parents[1], tmp_path / "tree", symlinks=True)
    return tmp_path / "tree" / "bundles" / NAME


def run(monkeypatch, *arguments: object) -> int:
    """Exit code of a command in this process."""
    monkeypatch.setattr(sys, "argv", ["lefusion", "zoo", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def tamper(path: Path) -> None:
    rewrite(path, {f"{NAME}/custom_components/losses.py": b"print('other code')\n"})


def traverse(path: Path) -> None:
    rewrite(path, added={f"{NAME}/../../evil.py": b"evil"})


def collide(path: Path) -> None:
    rewrite(path, added={f"{NAME}/configs": b"a file where a folder is"})


@pytest.mark.parametrize("recorded", [True, False], ids=["with records", "without"])
@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (truncate, "is damaged: it is no complete zip."),
        (traverse, f"holds '{NAME}/../../evil.py', a path that leads out of its folder."),
        (collide, f"holds '{NAME}/configs' as a file, and other files in a folder of that name."),
    ],
    ids=["truncated", "traversal", "a file as a folder"],
)
def test_harmful_zip_is_refused_in_a_sentence_with_and_without_records(
    zipped, monkeypatch, capsys, damage: Callable, sentence, recorded
):
    damage(zipped)
    if not recorded:
        for name in ("SHA256SUMS", "model_info.json"):
            (zipped.parent / name).unlink()
    before = sorted(zipped.parents[1].rglob("*"))
    assert run(monkeypatch, "verify", zipped) == 1
    printed = capsys.readouterr()
    about_contents = [line for line in printed.out.splitlines() if " is not the file of " not in line]
    assert about_contents[0] == f"{zipped.name}  {sentence}"
    assert len(about_contents) == (2 if recorded else 3)
    assert printed.err == ""
    assert sorted(zipped.parents[1].rglob("*")) == before


def test_tampered_zip_is_refused_by_its_records_and_by_them_alone(zipped, monkeypatch, capsys):
    """Without records, other code is a sound bundle of someone else: the command says that it cannot tell."""
    tamper(zipped)
    assert run(monkeypatch, "verify", zipped) == 1
    assert f"{zipped.name}  is not the file of SHA256SUMS: its SHA-256 is another one." in capsys.readouterr().out
    for name in ("SHA256SUMS", "model_info.json"):
        (zipped.parent / name).unlink()
    assert run(monkeypatch, "verify", zipped) == 0
    assert "only its contents were checked, not where it is from" in capsys.readouterr().out


def test_both_records_have_to_agree_with_the_zip(zipped, monkeypatch, capsys):
    """Whoever changes a zip and one of the records is told by the other."""
    tamper(zipped)
    (zipped.parent / "SHA256SUMS").unlink()
    assert run(monkeypatch, "verify", zipped.parent) == 1
    assert "is not the file of model_info.json: its checksum is another one." in capsys.readouterr().out


SPOILT = {
    "changed contents": (
        lambda root: (root / "docs" / "README.md").write_text("other words"),
        "has other contents than the one in .*: raise the version in the bundle's configs/metadata.json",
    ),
    "changed shared code": (
        lambda root: (root / "custom_components" / "losses.py").write_text("# changed\n"),
        "has other contents than the one in .*: raise the version",
    ),
    "more than 25 MB": (
        lambda root: (root / "models" / "large.bin2").write_bytes(bytes(25 * 2**20 + 1)),
        r"models/large.bin2 has 25.0 MB, more than the 25 MB that the zoo takes",
    ),
    "no changelog entry": (
        lambda root: edit_metadata(root, version="9.9.9"),
        "has no changelog entry for its version '9.9.9'",
    ),
    "failing schema": (
        lambda root: edit_metadata(root, network_data_format=None),
        "does not follow the schema at .*: 'network_data_format' is a required property",
    ),
}


@pytest.mark.parametrize(("spoil", "sentence"), SPOILT.values(), ids=SPOILT)
def test_pack_refuses_in_one_sentence_and_leaves_the_zoo_as_it_was(
    root, zipped, tmp_path, monkeypatch, capsys, spoil, sentence
):
    before = {path: path.read_bytes() for path in zipped.parent.iterdir()}
    spoil(root)
    assert run(monkeypatch, "pack", "--bundle", root, "--output", zipped.parent) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert re.search(sentence, line)
    assert {path: path.read_bytes() for path in zipped.parent.iterdir()} == before


@pytest.mark.integration
def test_changed_bundle_is_packed_under_a_new_version_beside_the_old_one(root, zipped, tmp_path):
    old = zipped.read_bytes()
    (root / "docs" / "README.md").write_text("other words")
    refused = command("pack", "--bundle", root, "--output", zipped.parent, cwd=tmp_path)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    edit_metadata(root, version="9.0.0", changelog={version_of(root): "an earlier one", "9.0.0": "other words"})
    process = command("pack", "--bundle", root, "--output", zipped.parent, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert (zipped.parent / f"{NAME}_v9.0.0.zip").is_file()
    assert zipped.read_bytes() == old
