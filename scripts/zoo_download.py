"""Fetching the zips of a zoo over HTTP into a folder that is thrown away."""

from __future__ import annotations

import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from tqdm import tqdm

from custom_components.errors import InputError

from .zoo_archive import ARCHIVE_NAME
from .zoo_record import MODEL_INFO, SUMS, read_model_info, read_sums

__all__ = ["fetch_zoo", "is_url"]

MAX_DOWNLOAD = 2**30
TIMEOUT_S = 30
BLOCK = 1 << 20


def is_url(target: str) -> bool:
    """Whether a word is an address rather than a path."""
    return "://" in target


def fetch_zoo(url: str, folder: Path, progress: bool = True) -> Path:
    """Downloads a zip with the records beside it, or from the address of a zoo all zips that its records name.

    Returns:
        The zip in ``folder``, or ``folder`` itself where it holds a zoo.

    Raises:
        InputError: where the address is none of HTTP, cannot be read, or breaks off.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InputError(f"{url} is no address of http or https.")
    file = unquote(parts.path.rsplit("/", 1)[-1])
    zipped = file.endswith(".zip")
    if zipped and not ARCHIVE_NAME.fullmatch(file):
        raise InputError(f"{url} does not end with NAME_vVERSION.zip.")
    base = url if zipped or url.endswith("/") else f"{url}/"
    recorded = [_fetch(urljoin(base, name), folder / name, False, optional=True) for name in (MODEL_INFO, SUMS)]
    names = [file]
    if not zipped:
        if not any(recorded):
            raise InputError(f"{url} has neither {MODEL_INFO} nor {SUMS}: it is no zoo.")
        keys = {*read_sums(folder / SUMS), *(f"{key}.zip" for key in read_model_info(folder / MODEL_INFO))}
        names = sorted(name for name in keys if ARCHIVE_NAME.fullmatch(name))
    for name in names:
        _fetch(url if zipped else urljoin(base, name), folder / name, progress)
    return folder / file if zipped else folder


def _fetch(url: str, path: Path, progress: bool, optional: bool = False) -> bool:
    """Downloads a file; whether there was one, where it is optional."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            size = int(answer.headers.get("Content-Length") or 0)
            bar = tqdm(
                total=size or None, unit="B", unit_scale=True, unit_divisor=1024, desc=path.name, disable=not progress
            )
            with open(path, "wb") as file, bar:
                while block := answer.read(BLOCK):
                    bar.update(file.write(block))
                    if file.tell() > MAX_DOWNLOAD:
                        raise InputError(f"{url} is larger than {MAX_DOWNLOAD >> 20} MB.")
                received = file.tell()
    except urllib.error.HTTPError as error:
        if optional and error.code in (403, 404):  # buckets answer 403 for what they lack
            return False
        raise InputError(f"cannot download {url}: {error}.") from error
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot download {url}: {getattr(error, 'reason', None) or error}.") from error
    if received < size:
        raise InputError(f"cannot download {url}: it broke off after {received} of {size} bytes.")
    return True
