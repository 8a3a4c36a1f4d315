"""Items are drawn reproducibly, whatever the order, the workers and the cache."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, Randomizable, Transform

from custom_components.datasets import ReproducibleDataset
from custom_components.errors import InputError


class Count(Transform):
    """A deterministic transform that counts its runs."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, data):
        self.runs += 1
        return {**data, "loaded": torch.full((2,), float(data["x"]))}


class Draw(Randomizable, Transform):
    """A random transform that also writes into what it was given."""

    def __call__(self, data):
        value = float(self.R.uniform())
        data["loaded"] += value
        return {**data, "draw": value}


def dataset(**settings) -> ReproducibleDataset:
    return ReproducibleDataset(
        [{"x": i} for i in range(4)],
        [Count(), Draw()],
        **{"seed": 3, "progress": False, "num_workers": 1, **settings},
    )


def draws(data: ReproducibleDataset, epoch: int = 0, order=None) -> dict[int, tuple[float, int]]:
    data.set_epoch(epoch)
    items = {i: data[i] for i in (range(len(data)) if order is None else order)}
    return {i: (item["draw"], item["seed"]) for i, item in items.items()}


def test_draws_depend_on_neither_order_nor_history_nor_global_generators():
    expected = draws(dataset(), epoch=5)
    data = dataset()
    draws(data, epoch=2)
    np.random.seed(7)
    torch.manual_seed(7)
    again = draws(data, epoch=5, order=[3, 0, 0, 2, 1, 3])
    assert again == expected


def test_draws_leave_global_generators_alone():
    data = dataset()
    numpy_state, torch_state, python_state = (
        np.random.get_state()[1].copy(),
        torch.get_rng_state(),
        random.getstate(),
    )
    draws(data)
    assert (np.random.get_state()[1] == numpy_state).all()
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state


def test_draws_differ_between_epochs_items_seeds_and_repeats():
    values = [
        value
        for settings, epoch in (({"repeats": 3}, 0), ({"repeats": 3}, 1), ({"repeats": 3, "seed": 4}, 0))
        for value in draws(dataset(**settings), epoch).values()
    ]
    assert len({draw for draw, _ in values}) == len(values) == 36
    assert len({seed for _, seed in values}) == 36


def test_two_random_transforms_draw_differently():
    data = ReproducibleDataset(
        [{"x": 0}], Compose([Count(), Draw(), lambda d: {**d, "first": d["draw"]}, Draw()]), progress=False
    )
    assert data[0]["first"] != data[0]["draw"]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_workers_do_not_change_the_draws(num_workers):
    data = dataset(repeats=2)
    expected = draws(dataset(repeats=2), epoch=4)
    data.set_epoch(4)
    loader = DataLoader(data, batch_size=3, num_workers=num_workers)
    got = [
        (float(draw), int(seed)) for batch in loader for draw, seed in zip(batch["draw"], batch["seed"], strict=True)
    ]
    assert got == [expected[i] for i in range(8)]


def test_repeats_pass_over_the_same_items_again():
    data = dataset(repeats=3)
    assert len(data) == 12
    assert [data[i]["x"] for i in range(12)] == [0, 1, 2, 3] * 3


@pytest.mark.parametrize(("cache_rate", "runs"), [(1.0, 4), (0.5, 2 + 2 * 6), (0.0, 24)])
def test_deterministic_transforms_run_once_for_each_cached_item(cache_rate, runs):
    data = dataset(repeats=2, cache_rate=cache_rate)
    expected = draws(dataset(repeats=2))
    for _ in range(3):
        assert draws(data) == expected
    assert data.transform.transforms[0].runs == runs


def test_random_transforms_cannot_write_into_the_cache():
    data = dataset()
    first = data[2]["loaded"].clone()
    assert torch.equal(data[2]["loaded"], first)
    assert torch.equal(first, torch.full((2,), 2.0) + data[2]["draw"])


def test_items_without_random_transforms_have_seeds_too():
    data = ReproducibleDataset([{"x": 0}, {"x": 1}], [Count()], progress=False)
    assert data[0]["seed"] != data[1]["seed"]
    assert data[0]["seed"] == data[0]["seed"]


def test_fewer_than_one_repeat_is_refused():
    with pytest.raises(InputError, match=r"repeats.*0"):
        dataset(repeats=0)


def test_plain_loop_over_the_data_set_ends():
    assert len(list(itertools.islice(dataset(repeats=2), 20))) == 8


def test_negative_index_is_the_same_item_with_the_same_draws():
    data = dataset()
    assert data[-1]["draw"] == data[3]["draw"]
