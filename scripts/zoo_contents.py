"""What must be true of a bundle's contents, wherever they lie, before anything in them runs."""

from __future__ import annotations

import json
import re
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import jsonschema
import torch

from custom_components.errors import InputError, first_line
from custom_components.weights import read_tensors

__all__ = ["MAX_BYTES", "SCHEMA", "Member", "check_contents", "read_metadata", "read_schema"]

MAX_BYTES = 25 * 2**20  # what the model zoo takes
REQUIRED = (
    "LICENSE",
    "configs/metadata.json",
    "configs/inference.json",
    "docs/README.md",
    "docs/data_license.txt",
    "models/model.pt",
)
METADATA = "configs/metadata.json"
SCHEMA = Path(__file__).with_name("zoo_metadata_schema.json")
PICKLES = {".pt", ".pth", ".ckpt", ".ts", ".bin", ".pkl", ".pickle", ".joblib"}


@dataclass(frozen=True)
class Member:
    """A file of a bundle: its size in bytes, and how to read it."""

    size: int
    read: Callable[[], bytes]


def read_schema(path: str | Path | None = None) -> dict[str, Any]:
    """The schema of metadata, the shipped one by default; InputError where the file holds none."""
    path = SCHEMA if path is None else Path(str(path))
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
        jsonschema.validators.validator_for(schema).check_schema(schema)
    except (OSError, ValueError, jsonschema.SchemaError) as error:
        raise InputError(f"cannot read the schema {path}: {first_line(error)}.") from error
    return schema


def read_metadata(members: Mapping[str, Member]) -> dict[str, Any]:
    """A bundle's metadata; an empty dictionary where it has none that can be read."""
    member = members.get(METADATA)
    if member is None or member.size > MAX_BYTES:
        return {}
    try:
        metadata = json.loads(member.read().decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


def check_contents(
    members: Mapping[str, Member], name: str, version: str | None = None, schema: Mapping[str, Any] | None = None
) -> list[str]:
    """Sentences on whatever is wrong with a bundle, each beginning with the member at fault. Nothing of it is run.

    Args:
        members: the bundle's files by their names within it.
        name: what the bundle is called by its folder.
        version: what it must be of; None where that is not known.
        schema: JSON schema of the metadata; the shipped one by default.
    """
    return [
        *_check_files(members),
        *_check_configs(members),
        *_check_metadata(read_metadata(members), name, version, read_schema() if schema is None else schema),
        *_check_weights(members),
    ]


def _check_files(members: Mapping[str, Member]) -> Iterator[str]:
    for name in REQUIRED:
        if name not in members:
            yield f"{name} is missing."
        elif members[name].size == 0:
            yield f"{name} is empty."
    for name, member in members.items():
        if member.size > MAX_BYTES:
            yield f"{name} has {member.size / 2**20:.1f} MB, more than the {MAX_BYTES // 2**20} MB that the zoo takes."


def _check_configs(members: Mapping[str, Member]) -> Iterator[str]:
    """Every config is JSON, and the components that they name by ``custom_components`` are there."""
    named: dict[str, str] = {}
    for name, member in members.items():
        if not re.fullmatch(r"configs/.*\.json", name) or member.size > MAX_BYTES:
            continue
        try:
            text = member.read().decode("utf-8")
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield f"{name} does not parse: {first_line(error)}."
            continue
        if PurePosixPath(name).stem in ("metadata", "inference", "train", "evaluate") and not isinstance(content, dict):
            yield f"{name} does not parse: it holds a {type(content).__name__}, not an object."
        for module in re.findall(r"custom_components\.(\w+)", text):
            named.setdefault(module, name)
    for module, name in named.items():
        if not {f"custom_components/{module}.py", f"custom_components/{module}/__init__.py"} & set(members):
            yield f"{name} names custom_components.{module}, which is missing."


def _check_metadata(
    metadata: Mapping[str, Any], name: str, version: str | None, schema: Mapping[str, Any]
) -> Iterator[str]:
    if not metadata:
        return  # told as a missing file, or one that does not parse
    validator = jsonschema.validators.validator_for(schema)(schema)
    error = jsonschema.exceptions.best_match(validator.iter_errors(metadata))
    if error is not None:
        problem = textwrap.shorten(first_line(error), 200, placeholder=" ...")
        yield f"{METADATA} does not follow the schema at {error.json_path}: {problem}."
    own, given = metadata.get("name"), metadata.get("version")
    changelog = metadata.get("changelog")
    if not isinstance(changelog, dict) or not changelog.get(str(given)):
        yield f"{METADATA} has no changelog entry for its version {given!r}."
    if own != name:
        yield f"{METADATA} has the name {own!r}, the folder is called {name!r}."
    if "_v" in name:
        yield f"{METADATA}: the name {name!r} holds '_v', where MONAI takes the version to begin."
    if version is not None and given != version:
        yield f"{METADATA} has version {given!r}, the file's name says {version}."


def _check_weights(members: Mapping[str, Member]) -> Iterator[str]:
    """Every file that could be a pickle holds tensors alone, read in a way that runs nothing."""
    for name, member in members.items():
        if PurePosixPath(name).suffix.lower() not in PICKLES or not 0 < member.size <= MAX_BYTES:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights"
            path.write_bytes(member.read())
            try:
                content = read_tensors(path)
            except InputError:
                yield f"{name} cannot be read as tensors alone: it is damaged, or would run code when loaded."
                continue
        if not _only_tensors(content):
            yield f"{name} holds other things than tensors."


def _only_tensors(content: object) -> bool:
    """Tensors in (nested) dictionaries and lists."""
    if isinstance(content, Mapping):
        return bool(content) and all(map(_only_tensors, content.values()))
    if isinstance(content, list | tuple):
        return all(map(_only_tensors, content))
    return isinstance(content, torch.Tensor)
