"""Epochs of a fixed number of steps, whatever the number of cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

from .datasets import ReproducibleDataset
from .errors import InputError
from .seeds import derive_seed

__all__ = ["CyclicSampler", "most_visits"]


def most_visits(places: Sequence[int], num_samples: int) -> int:
    """How often one case comes within an epoch at most: the ``repeats`` that its data set needs.

    Args:
        places: the cases of one round; a case may come several times.
        num_samples: samples in an epoch, of all processes together.
    """
    rounds = num_samples // max(1, len(places)) + 2  # an epoch may begin and end within a round
    return rounds * max(Counter(places).values(), default=1)


class CyclicSampler(Sampler[int]):
    """Goes round and round through all cases, in a new order each time, and ends an epoch after a fixed number.

    Trainings on mixtures of different size then take equally many optimiser steps. The next epoch goes on where this
    one ended, so that every case comes equally often, even where an epoch is shorter than one round. Where a case comes
    several times within an epoch, the data set draws its augmentations anew each time.

    Args:
        dataset: whose ``epoch`` counts from 1 (:class:`~custom_components.handlers.DatasetEpoch`).
        num_samples: samples in an epoch, of each process.
        places: the cases of one round by their index in the data; a case may come several times.
        seed: run seed.
        num_replicas, rank: number of processes, and which this one is; it takes every ``num_replicas``-th sample.

    Raises:
        InputError: for an epoch without samples.
    """

    def __init__(
        self,
        dataset: ReproducibleDataset,
        num_samples: int,
        places: Sequence[int],
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        if num_samples < 1:
            raise InputError(f"steps_per_epoch and batch_size must be at least 1, got {num_samples} samples an epoch.")
        self.dataset, self.num_samples, self.places, self.seed = dataset, num_samples, list(places), seed
        self.num_replicas, self.rank = num_replicas, rank

    def __len__(self) -> int:
        return self.num_samples if self.places else 0

    def __iter__(self) -> Iterator[int]:
        """Indices into the data set; index i + k * (number of cases) is case i with its k-th draw of the epoch."""
        total, cases, visits = self.num_samples * self.num_replicas, len(self.dataset.data), {}
        first, order, current = max(self.dataset.epoch - 1, 0) * total, [], -1
        for position in range(first, first + total if self.places else first):
            round_number, place = divmod(position, len(self.places))
            if round_number != current:
                generator = torch.Generator().manual_seed(derive_seed(self.seed, "round", round_number))
                order, current = torch.randperm(len(self.places), generator=generator).tolist(), round_number
            case = self.places[order[place]]
            visits[case] = visits.get(case, -1) + 1
            if (position - first) % self.num_replicas == self.rank:
                yield case + visits[case] * cases
