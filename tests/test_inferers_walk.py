"""The walk over the timesteps, with the jumps of appendix F: forwards, timesteps, states and progress."""

from __future__ import annotations

import pytest
import torch
from inpainting_parts import GRID, FakeNetwork, T, example

from custom_components.inferers import LesionInpaintingInferer
from custom_components.schedules import NoiseSchedule


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 10),
        ({"num_inference_steps": 4}, 4),
        ({"num_inference_steps": 4, "jump_length": 2, "jump_n_sample": 3}, 8),
    ],
)
def test_num_forwards_counts_the_network_s_calls(settings, expected):
    inferer, network = LesionInpaintingInferer(NoiseSchedule(T), **settings), FakeNetwork()
    inferer(example(), network)
    assert inferer.num_forwards == len(network.calls) == expected


def test_network_is_called_at_the_chosen_timesteps():
    network = FakeNetwork()
    LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=4, jump_length=2, jump_n_sample=2)(example(), network)
    assert [timesteps.tolist() for _, timesteps, _ in network.calls] == [[t] * 2 for t in (11, 8, 5, 8, 5, 2)]
    assert network.calls[0][1].dtype == torch.long


def test_intermediate_states_are_handed_out_with_their_timesteps():
    states = []
    inferer = LesionInpaintingInferer(
        NoiseSchedule(T),
        num_inference_steps=4,
        jump_length=2,
        jump_n_sample=2,
        on_step=lambda step, t, x: states.append((step, t, x)),
    )
    inputs = example()
    result = inferer(inputs, FakeNetwork())
    assert [step for step, _, _ in states] == list(range(9))
    assert [t for _, t, _ in states] == [11, 8, 5, 2, 5, 8, 5, 2, -1]
    assert all(x.shape == (2, 1, *GRID) for _, _, x in states)
    assert torch.equal(states[-1][2], result)


def test_progress_bar_counts_the_forwards(capsys):
    inputs = example(samples=1)
    LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=7, progress=True)(inputs, FakeNetwork())
    shown = capsys.readouterr().err
    assert "painting" in shown
    assert "/7" in shown
    LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=7)(inputs, FakeNetwork())
    assert capsys.readouterr().err == ""
