"""Bundles as the zips of a model zoo: made, checked, and served on this machine."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from custom_components.bundle_configs import BUNDLES
from custom_components.errors import InputError, as_flag

from .zoo_contents import read_schema
from .zoo_download import fetch_zoo, is_url
from .zoo_packing import find_bundles, pack_bundles
from .zoo_record import MODEL_INFO, SUMS
from .zoo_server import open_zoo
from .zoo_verification import has_record, verify_archive, verify_bundle, verify_zoo

__all__ = ["pack", "serve", "verify"]


def pack(
    output: str = "dist",
    bundle: str | Sequence[str] | None = None,
    url: str = "",
    released: str | None = None,
    schema: str | None = None,
    overwrite: bool = False,
) -> None:
    """Make OUTPUT/<name>_v<version>.zip of each bundle, the same bytes every time, with model_info.json and SHA256SUMS.

    A zip holds the files that git tracks and the shared code. What the zoo would refuse is refused here, and so is a
    version that has other contents than the one published or packed before under the same number.

    Args:
        output: folder to write to, made where absent.
        bundle: a bundle's name or folder, or several separated by commas; all by default.
        url: where the zips will be published, for the sources in model_info.json.
        released: model_info.json of what was published, which never changes; bundles/model_info.json by default, where
            there is one.
        schema: JSON schema that the metadata must follow; MONAI's rules as shipped by default.
        overwrite: replace zips in OUTPUT that hold other contents under the same version.

    Raises:
        InputError: for the first thing that is wrong; nothing is written then.
    """
    record = BUNDLES / MODEL_INFO if released is None else Path(str(released))
    if released is not None and not record.is_file():
        raise InputError(f"released {record} does not exist.")
    releases, unchanged = pack_bundles(
        find_bundles(bundle), Path(str(output)), str(url), record, read_schema(schema), as_flag(overwrite, "overwrite")
    )
    for release in releases:
        size = f"{release.path.stat().st_size / 2**20:.1f} MB"
        print(f"{release.path}  {size}{', unchanged' if release.path in unchanged else ''}")
    print(f"recorded in {Path(str(output)) / MODEL_INFO} and {SUMS}")


def verify(target: str, schema: str | None = None, progress: bool = True) -> None:
    """Check a bundle before anything of it runs; exit code 0 where it is sound, 1 where it is not.

    Sums are compared with the SHA256SUMS and model_info.json beside the zip. Paths, links, weights (tensors alone),
    sizes, configs, metadata and version are checked in any case. Nothing is unpacked.

    Args:
        target: a zip, a folder of zips, an unpacked bundle, or the address of a zip or of a zoo (http, https).
        schema: JSON schema that the metadata must follow; MONAI's rules as shipped by default.
        progress: show bars.

    Raises:
        InputError: where there is nothing to check, or it cannot be downloaded.
    """
    rules, bars = read_schema(schema), as_flag(progress, "progress")
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(str(target))
        if is_url(str(target)):
            path = fetch_zoo(str(target), Path(temporary), bars)
        if path.is_file():
            found, recorded = verify_archive(path, rules), has_record(path.parent)
        elif (path / "configs").is_dir():
            found, recorded = verify_bundle(path, rules), False
        elif path.is_dir():
            found, recorded = verify_zoo(path, rules, bars), has_record(path)
        else:
            raise InputError(f"{target} is neither a zip, nor a folder, nor an address.")
    for finding in found:
        print(f"{finding.file}  {finding.sentence}")
    if not recorded:
        print(f"neither {SUMS} nor {MODEL_INFO} lies beside it: only its contents were checked, not where it is from")
    print(f"{target}: {f'{len(found)} finding' + 's' * (len(found) > 1) if found else 'sound'}")
    sys.exit(1 if found else 0)


def serve(directory: str = "dist", port: int = 8000, host: str = "127.0.0.1") -> None:
    """Serve the zips of DIRECTORY to MONAI's own download, until interrupted.

    ``python -m monai.bundle download --name NAME --url ADDRESS/NAME_vVERSION.zip`` takes one. With the environment
    variable HF_ENDPOINT=ADDRESS and the package huggingface_hub, ``--source huggingface_hub --repo zoo/NAME`` and
    ``--source monaihosting --version VERSION`` work too. The sources github, ngc and ngc_private have fixed addresses.

    Args:
        directory: what ``lefusion zoo pack`` wrote.
        port: port to listen at; 0 takes one that is free.
        host: address to listen at; 0.0.0.0 lets other machines in.

    Raises:
        InputError: where there are no zips, one is not as recorded, or the port cannot be had.
    """
    with open_zoo(Path(str(directory)), str(host), port) as server:
        print(f"serving {len(server.releases)} zips of {directory} at {server.url}, Ctrl-C ends it")
        for release in server.releases:
            print(f"  python -m monai.bundle download --name {release.name} --url {server.url}/{release.path.name}")
        sys.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nstopped")
