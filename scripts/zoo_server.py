"""A zoo of bundles on this machine, from which MONAI's own download can take them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from custom_components.errors import InputError, first_line

from .zoo_hub import NotOnHub, describe, is_hub_path, read_file
from .zoo_record import MODEL_INFO, SUMS, Release, compare, list_releases, read_model_info, read_sums

__all__ = ["ZooServer", "open_zoo"]


def open_zoo(folder: Path, host: str, port: int) -> ZooServer:
    """A server of a folder's zips, listening, but not answering yet.

    Args:
        folder: what ``lefusion zoo pack`` wrote.
        host: the address to listen at.
        port: 0 takes any that is free.

    Raises:
        InputError: where there are no zips, one is not as recorded, or the port cannot be had.
    """
    releases = list_releases(folder)
    if not releases:
        raise InputError(f"{folder} holds no zips of bundles; `lefusion zoo pack --output {folder}` makes them.")
    info, sums = read_model_info(folder / MODEL_INFO), read_sums(folder / SUMS)
    for release in releases:
        for sentence in compare(release.path, release.path.name, info, sums):
            raise InputError(f"{release.path} {sentence}")
    try:
        return ZooServer(folder, releases, host, port)
    except (OSError, OverflowError, TypeError) as error:
        raise InputError(f"cannot serve at {host}:{port}: {first_line(error)}.") from error


class ZooServer(ThreadingHTTPServer):
    """Serves zips and records, and the bundles in the zips as a Hugging Face hub does; nothing else of the folder."""

    daemon_threads = True

    def __init__(self, folder: Path, releases: Sequence[Release], host: str, port: int) -> None:
        self.folder, self.releases = folder, releases
        super().__init__((host, port), _Handler)
        self.url = f"http://{host}:{self.server_address[1]}"

    def model_info(self, base: str) -> dict[str, dict[str, str]]:
        """The record, with sources that lead here, by the address that the server was asked at."""
        info = read_model_info(self.folder / MODEL_INFO)
        return {key: {**entry, "source": f"{base}/{key}.zip"} for key, entry in info.items()}

    def zips(self) -> dict[str, Path]:
        """Zips by the names that they are asked for: ``NAME_vVERSION.zip``, and ``NAME.zip`` for the newest."""
        newest = {f"{release.name}.zip": release.path for release in self.releases}  # the newest of a name is last
        return newest | {release.path.name: release.path for release in self.releases}

    def page(self, base: str) -> str:
        """What a browser sees."""
        lines = [f"{base}/{release.path.name}" for release in self.releases]
        return "\n".join([*lines, f"{base}/{MODEL_INFO}", f"{base}/{SUMS}", ""])


class _Handler(BaseHTTPRequestHandler):
    server: ZooServer

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def _answer(self, with_content: bool) -> None:
        path = urlsplit(self.path).path
        headers: dict[str, str] = {}
        try:
            kind, content = self._find(path, headers)
            status = 200
        except NotOnHub as error:
            status, kind, content = 404, "text/plain", b"not in this zoo\n"
            headers["X-Error-Code"] = str(error)
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_content:
            with suppress(ConnectionError):  # whoever asked has gone
                self.wfile.write(content)

    def _find(self, path: str, headers: dict[str, str]) -> tuple[str, bytes]:
        """Type and content of what lies at a path; headers that belong to it are added."""
        zoo = self.server
        zips = zoo.zips()
        host = self.headers.get("Host", "")
        base = f"http://{host}" if re.fullmatch(r"[\w.:\[\]-]+", host) else zoo.url
        if is_hub_path(path):
            description = describe(path, zoo.releases)
            if description is not None:
                return "application/json", json.dumps(description).encode()
            content, own = read_file(path, zoo.releases)
            headers.update(own)
            return "application/octet-stream", content
        if path.removeprefix("/") in zips:
            return "application/zip", zips[path.removeprefix("/")].read_bytes()
        if path == f"/{MODEL_INFO}":
            return "application/json", json.dumps(zoo.model_info(base), indent=4, sort_keys=True).encode()
        if path == f"/{SUMS}" and (zoo.folder / SUMS).is_file():
            return "text/plain", (zoo.folder / SUMS).read_bytes()
        if path == "/":
            return "text/plain", zoo.page(base).encode()
        raise NotOnHub("EntryNotFound")
