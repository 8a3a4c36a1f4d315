"""Where the tests find the reference cases and the real data; without them, what needs them is skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lone_environment import lone_python

REPO_ROOT = Path(__file__).resolve().parents[1]


def _folder(variable: str, default: str) -> Path:
    """The folder an environment variable names (a relative one is relative to the repository), or a skip."""
    folder = (REPO_ROOT / os.environ.get(variable, default)).resolve()
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}; {variable} names the one to use")
    return folder


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return REPO_ROOT


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Numeric reference cases: schedules.json, cosine_*_buffers.pt, histogram.pt, *_expected.pt."""
    return _folder("LEFUSION_GOLDEN", "../shared/golden")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real scans: lidc_nodules and others."""
    return _folder("LEFUSION_DATA", "../shared/data")


@pytest.fixture(scope="session")
def lone_environment() -> Path:
    """Python of an environment that has what a bundle alone needs, and nothing of this project."""
    try:
        return lone_python()
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def label_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The MONAI Label app on a small study, served by MONAI Label; skipped where that cannot be installed."""
    from label_study import served_app

    with served_app(tmp_path_factory.mktemp("label_app")) as app:
        yield app
