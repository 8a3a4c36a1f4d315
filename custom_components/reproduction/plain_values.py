"""Plain values of a bundle's merged configs, each combination read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from monai.bundle import ConfigParser

from ..bundle_configs import bundle_root, config_files
from ..errors import InputError

__all__ = ["plain_values", "whole_number"]


def plain_values(bundle: str, workflow: str, overlays: Sequence[str], keys: Mapping[str, Any]) -> dict[str, Any]:
    """The top level of a workflow's configs as they are written, nothing being evaluated.

    Args:
        bundle: its name.
        workflow: training, inference or evaluate.
        overlays: over its config.
        keys: that take the place of the configs'.
    """
    return {**_read(bundle, workflow, tuple(overlays)), **keys}


def whole_number(values: Mapping[str, Any], key: str) -> int:
    """A plain value that counts something.

    Raises:
        InputError: where it is no whole number above 0, naming the key.
    """
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{key} must be a whole number above 0, got {value!r}.")
    return value


@cache
def _read(bundle: str, workflow: str, overlays: tuple[str, ...]) -> Mapping[str, Any]:
    parser = ConfigParser()
    parser.read_config(config_files(bundle_root(bundle), workflow, list(overlays)))
    return parser.get()
