"""A zoo's zips as the repositories of a Hugging Face hub: what its client asks for while it downloads a bundle.

Each bundle is a repository, called by its name under any owner, and each version a revision.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from .zoo_record import Release, sha1_of

__all__ = ["NotOnHub", "describe", "is_hub_path", "read_file"]

API = re.compile(r"/api/models/[^/]+/(?P<name>[^/]+)(/(?P<what>revision|tree|refs)(/(?P<revision>[^/]+))?)?/?")
FILE = re.compile(r"/[^/]+/(?P<name>[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


class NotOnHub(LookupError):
    """A repository, revision or file that is not there; its argument is the code that the client knows it by."""


def is_hub_path(path: str) -> bool:
    """Whether a request's path is one of the hub's."""
    return bool(API.fullmatch(path) or FILE.fullmatch(path))


def describe(path: str, releases: Sequence[Release]) -> Any:
    """The answer to a request on a repository, as JSON content; None for a request on a file.

    Raises:
        NotOnHub: where the zoo has no such bundle or version.
    """
    match = API.fullmatch(path)
    if match is None:
        return None
    versions = _versions(match["name"], releases)
    if match["what"] == "refs":
        tags = [{"name": v.version, "ref": f"refs/tags/{v.version}", "targetCommit": _commit(v)} for v in versions]
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": _commit(versions[-1])}
        return {"branches": [main], "tags": tags, "converts": [], "pullRequests": []}
    release = _revision(versions, match["revision"])
    files = _files(release.path)
    if match["what"] == "tree":
        return [{"type": "file", "path": name, "size": size, "oid": oid} for name, (size, oid) in files.items()]
    owner = path.split("/")[3]
    return {
        "id": f"{owner}/{release.name}",
        "sha": _commit(release),
        "private": False,
        "tags": [],
        "siblings": [{"rfilename": name} for name in files],
    }


def read_file(path: str, releases: Sequence[Release]) -> tuple[bytes, dict[str, str]]:
    """A file of a bundle, and the headers by which the client knows it.

    Raises:
        NotOnHub: where the zoo has no such bundle, version or file.
    """
    match = FILE.fullmatch(path)
    if match is None:
        raise NotOnHub("EntryNotFound")
    release = _revision(_versions(match["name"], releases), match["revision"])
    name = unquote(match["file"])
    entry = _files(release.path).get(name)
    if entry is None:
        raise NotOnHub("EntryNotFound")
    with zipfile.ZipFile(release.path) as archive:
        content = archive.read(f"{release.name}/{name}")
    return content, {"ETag": f'"{entry[1]}"', "X-Repo-Commit": _commit(release)}


def _versions(name: str, releases: Sequence[Release]) -> list[Release]:
    """A bundle's versions, the newest last."""
    found = [release for release in releases if release.name == name]
    if not found:
        raise NotOnHub("RepoNotFound")
    return found


def _revision(versions: Sequence[Release], revision: str | None) -> Release:
    """The version that a tag, branch or commit names."""
    if revision in (None, "main"):
        return versions[-1]
    for release in versions:
        if revision in (release.version, _commit(release)):
            return release
    raise NotOnHub("RevisionNotFound")


@lru_cache
def _files(path: Path) -> dict[str, tuple[int, str]]:
    """Size and git's hash of each file of a zip."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            content = archive.read(info)
            digest = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
            found[info.filename.split("/", 1)[1]] = (len(content), digest.hexdigest())
    return found


@lru_cache
def _checksum(path: Path) -> str:
    return sha1_of(path)


def _commit(release: Release) -> str:
    """What stands for a commit: the zip's checksum, which changes with the contents and has a commit's form."""
    return _checksum(release.path)
