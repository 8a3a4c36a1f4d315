"""The processes of a run: one alone, or those that torchrun started."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

__all__ = ["Processes"]

LONGEST_WAIT = timedelta(days=30)  # of a process for one that has more to do


class Processes:
    """This process's place among the others; a context that ends their bond.

    Args:
        threads: of PyTorch in each.
        alone: take no notice of other processes.
    """

    def __init__(self, threads: int = 1, alone: bool = False) -> None:
        torch.set_num_threads(threads)
        environment = {} if alone else os.environ
        self.rank, self.count = int(environment.get("RANK", 0)), int(environment.get("WORLD_SIZE", 1))
        self.local_rank = int(environment.get("LOCAL_RANK", self.rank))

    def __enter__(self) -> Processes:
        if self.count > 1:
            dist.init_process_group("gloo", timeout=LONGEST_WAIT)
        return self

    def __exit__(self, *error: object) -> None:
        if dist.is_available() and dist.is_initialized() and self.count > 1:
            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def device(self) -> torch.device | None:
        """This process's own GPU where there are several processes and GPUs; None leaves it to the config."""
        if self.count == 1 or not torch.cuda.is_available():
            return None
        return torch.device("cuda", self.local_rank % torch.cuda.device_count())

    def gather(self, own: list[Any]) -> list[Any]:
        """The lists of all processes, one after the other; waits for all of them."""
        if self.count == 1:
            return own
        parts: list[Any] = [None] * self.count
        dist.all_gather_object(parts, own)
        return [entry for part in parts for entry in part]

    def after_first(self, error: str | None) -> str | None:
        """What the first process has to say before the others go on: why the run cannot begin, or None."""
        if self.count == 1:
            return error
        told = [error]
        dist.broadcast_object_list(told, src=0)
        return told[0]
