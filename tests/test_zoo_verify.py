"""Zips of bundles are looked through before anything of them runs; what is wrong is told in one sentence."""

from __future__ import annotations

import http.server
import io
import shutil
import stat
import sys
import threading
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from zoo_bundles import (
    NAME,
    command,
    pack,
    rewrite,
    small_bundle,
    zipped_fixture,  # noqa: F401 (a fixture)
)

from custom_components.errors import InputError
from lefusion_scripts import cli
from lefusion_scripts.zoo_contents import MAX_BYTES, read_schema
from lefusion_scripts.zoo_download import fetch_zoo
from lefusion_scripts.zoo_verification import verify_archive


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    return pack(small_bundle(folder), folder / "dist")


@pytest.fixture
def lone(packed, tmp_path) -> Path:
    """A zip without records."""
    return Path(shutil.copy(packed, tmp_path / packed.name))


def run(monkeypatch, *arguments: object) -> int:
    """Exit code of the command in this process."""
    monkeypatch.setattr(sys, "argv", ["lefusion", "zoo", "verify", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


def sentences(path: Path) -> list[str]:
    return [finding.sentence for finding in verify_archive(path, read_schema())]


# ------------------------------------------------------------------------------------------------ what is sound


def test_zip_and_zoo_as_packed_are_sound(zipped, monkeypatch, capsys):
    assert run(monkeypatch, zipped) == 0
    assert run(monkeypatch, zipped.parent) == 0
    assert capsys.readouterr().out == f"{zipped}: sound\n{zipped.parent}: sound\n"


def test_zip_without_records_is_sound_but_said_to_have_none(lone, monkeypatch, capsys):
    saved_by_monai = lone.rename(lone.with_name(f"{NAME}.zip"))
    assert run(monkeypatch, saved_by_monai) == 0
    assert "neither SHA256SUMS nor model_info.json lies beside it" in capsys.readouterr().out


def test_unpacked_bundle_is_checked_and_may_hold_no_links(lone, tmp_path, monkeypatch, capsys):
    with zipfile.ZipFile(lone) as archive:
        archive.extractall(tmp_path / "unpacked")
    root = tmp_path / "unpacked" / NAME
    assert run(monkeypatch, root) == 0
    (root / "docs" / "README.md").unlink()
    assert run(monkeypatch, root) == 1
    assert f"{NAME}  docs/README.md is missing." in capsys.readouterr().out
    (root / "docs" / "README.md").symlink_to("/etc/hostname")
    assert run(monkeypatch, root) == 1
    assert "docs/README.md is a link" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------- the sums


def test_tampered_zip_is_told_by_both_records(zipped):
    rewrite(zipped, {f"{NAME}/docs/README.md": b"other words"})
    assert sentences(zipped) == [
        "is not the file of SHA256SUMS: its SHA-256 is another one.",
        "is not the file of model_info.json: its checksum is another one.",
    ]


def test_zip_that_is_not_recorded_and_one_that_is_missing_are_told(zipped, monkeypatch, capsys):
    zipped.rename(zipped.with_name(f"{NAME}_v8.0.0.zip"))
    assert run(monkeypatch, zipped.parent) == 1
    out = capsys.readouterr().out
    assert f"{NAME}_v8.0.0.zip  is not in SHA256SUMS." in out
    assert "the file's name says 8.0.0." in out
    assert f"{zipped.name}  is recorded, but missing." in out


def test_records_of_another_form_are_bad_input(zipped, monkeypatch, capsys):
    (zipped.parent / "SHA256SUMS").write_text("nothing\n")
    assert run(monkeypatch, zipped) == 2
    assert capsys.readouterr().err.endswith("SHA256SUMS: line 1 is not a SHA-256 and a file name.\n")


# ------------------------------------------------------------------------------------------- zips made to harm


def as_link(info: zipfile.ZipInfo) -> None:
    info.external_attr = (stat.S_IFLNK | 0o777) << 16


def as_device(info: zipfile.ZipInfo) -> None:
    info.external_attr = (stat.S_IFCHR | 0o666) << 16


HARMFUL = {
    "traversal": (f"{NAME}/../../evil.py", None, "a path that leads out of its folder"),
    "backslashes": (f"{NAME}\\..\\evil.py", None, "a path that leads out of its folder"),
    "absolute": ("/tmp/evil.py", None, "an absolute path"),
    "drive": ("C:/evil.py", None, "an absolute path"),
    "zero byte": (f"{NAME}/LICENSE\x01", None, "characters that systems read in different ways"),
    "link": (f"{NAME}/models/other.pt", as_link, "a link"),
    "device": (f"{NAME}/models/device", as_device, "neither file nor folder"),
    "twice": (f"{NAME}/LICENSE", None, "more than once"),
    "twice but for the case": (f"{NAME}/license", None, "more than once"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("name", "prepare", "sentence"), HARMFUL.values(), ids=HARMFUL)
def test_zip_made_to_harm_is_told_and_not_read(lone, monkeypatch, name, prepare, sentence):
    rewrite(lone, added={name: b"evil"}, prepare=prepare)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("was read"))
    (found,) = sentences(lone)
    assert sentence in found


def test_zip_that_unpacks_to_too_much_is_told_and_not_read(lone, monkeypatch):
    monkeypatch.setattr("lefusion_scripts.zoo_verification.MAX_TOTAL", 1000)
    assert any("unpacks to more than" in sentence for sentence in sentences(lone))


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.9, 0.99])
def test_truncated_zip_is_told_in_one_sentence(lone, kept):
    content = lone.read_bytes()
    lone.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    assert sentences(lone) == ["is damaged: it is no complete zip."]


def test_flipped_byte_is_told_in_one_sentence(lone):
    content = bytearray(lone.read_bytes())
    content[content.index(b"Apache License")] ^= 1
    lone.write_bytes(content)
    assert sentences(lone) == [f"is damaged: {NAME}/LICENSE cannot be read from it."]


# --------------------------------------------------------------------------------------------------- contents


def saved(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


class Harmful:
    """Would write a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (self.path,)


def test_weights_that_run_code_are_told_and_do_not_run(lone, tmp_path):
    rewrite(lone, {f"{NAME}/models/model.pt": saved(Harmful(tmp_path / "ran"))})
    (found,) = sentences(lone)
    assert found.startswith("models/model.pt cannot be read as tensors alone")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (
            "models/other.pt",
            saved({"a": torch.ones(1), "b": "words"}),
            "models/other.pt holds other things than tensors.",
        ),
        ("sample/large.bin2", bytes(MAX_BYTES + 1), "sample/large.bin2 has 25.0 MB, more than the 25 MB"),
        ("LICENSE", None, "LICENSE is missing."),
        ("configs/inference.json", b"{", "configs/inference.json does not parse: Expecting property name"),
        ("configs/metadata.json", b"[" * 100_000, "configs/metadata.json does not parse: "),
        ("custom_components/losses.py", None, "names custom_components.losses, which is missing."),
    ],
)
def test_contents_that_the_zoo_would_not_take_are_told(lone, name, content, sentence):
    rewrite(lone, {f"{NAME}/{name}": content})
    (found,) = sentences(lone)
    assert sentence in found
    assert "\n" not in found


@pytest.mark.parametrize("name", ["other_v0.2.0.zip", f"{NAME}-copy.zip"])
def test_zip_with_the_name_of_another_bundle_is_told(lone, name):
    found = sentences(lone.rename(lone.with_name(name)))
    assert f"must be called {NAME}_vVERSION.zip or {NAME}.zip, after the bundle in it." in found


# -------------------------------------------------------------------------------------------------- addresses


@pytest.fixture
def address(zipped):
    """Where a plain web server has the zoo."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(zipped.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_zip_and_zoo_on_the_web_are_checked_with_their_records(zipped, address, monkeypatch, capsys):
    for target in (f"{address}/{zipped.name}", address, f"{address}/"):
        assert run(monkeypatch, target) == 0
    printed = capsys.readouterr()
    assert "100%" in printed.err
    assert "neither" not in printed.out
    rewrite(zipped, {f"{NAME}/docs/README.md": b"other words"})
    assert run(monkeypatch, f"{address}/{zipped.name}") == 1
    assert f"{zipped.name}  is not the file of SHA256SUMS" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("ftp://127.0.0.1/a_v1.zip", "is no address of http or https"),
        ("file:///etc/passwd", "is no address of http or https"),
        ("{}/a_v1.0.0.zip", "cannot download .*404"),
        ("http://127.0.0.1:1/a_v1.0.0.zip", "cannot download .*refused"),
        ("{}/sub/", "it is no zoo"),
    ],
)
def test_address_that_gives_nothing_is_bad_input(address, tmp_path, target, sentence):
    with pytest.raises(InputError, match=sentence):
        fetch_zoo(target.format(address), tmp_path, progress=False)


def test_download_that_breaks_off_is_bad_input(zipped, tmp_path):
    class Breaking(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"half")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Breaking) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(InputError, match="broke off after 4 of 1000 bytes"):
            fetch_zoo(f"http://127.0.0.1:{server.server_address[1]}/a_v1.0.0.zip", tmp_path, progress=False)
        server.shutdown()


def test_path_that_is_nothing_is_bad_input(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, tmp_path) == 2
    assert run(monkeypatch, tmp_path / "nothing.zip") == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"error: {tmp_path} holds neither a bundle nor zips of bundles."
    assert second == f"error: {tmp_path / 'nothing.zip'} is neither a zip, nor a folder, nor an address."


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_command_ends_with_1_and_writes_nothing_outside(lone, tmp_path):
    rewrite(lone, added={f"{NAME}/../../evil.py": b"evil"})
    before = sorted(tmp_path.parent.rglob("*"))
    process = command("verify", lone.name, cwd=tmp_path)
    assert process.returncode == 1, process.stderr
    assert process.stderr == ""
    assert process.stdout.splitlines()[0] == (
        f"{lone.name}  holds '{NAME}/../../evil.py', a path that leads out of its folder."
    )
    assert sorted(tmp_path.parent.rglob("*")) == before
