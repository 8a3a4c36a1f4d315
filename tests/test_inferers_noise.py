"""Where the noise comes from: seeds of the samples, and no generator beside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from inpainting_parts import CONTEXTS, GRID, SAMPLERS, FakeNetwork, T, example, histograms

from custom_components.inferers import LesionInpaintingInferer
from custom_components.schedules import NoiseSchedule


@pytest.mark.parametrize(("sampler", "draws_per_step"), [("ddpm", 2), ("ddim_eta_1", 2), ("ddim_eta_0", 1)])
def test_every_gaussian_draw_goes_through_noise_fn(monkeypatch, sampler, draws_per_step):
    """One for the start, one for each jump, and for each step but the last one for the background and the sampler's."""

    def forbidden(*args, **kwargs):
        raise AssertionError("a draw went past noise_fn")

    for name in ("randn", "randn_like", "normal", "rand", "rand_like"):
        monkeypatch.setattr(torch, name, forbidden)
    inputs, shapes = torch.zeros(2, 2, *GRID), []

    def noise_fn(like):
        shapes.append(tuple(like.shape))
        return torch.zeros_like(like)

    inferer = LesionInpaintingInferer(
        NoiseSchedule(T),
        sampler=SAMPLERS[sampler],
        num_inference_steps=4,
        jump_length=2,
        jump_n_sample=2,
        noise_fn=noise_fn,
    )
    before = torch.get_rng_state()
    inferer(inputs, FakeNetwork())
    # The walk 3 2 1 0 1 2 1 0 -1 has six steps down, the last of which needs no noise, and two up.
    assert len(shapes) == 1 + 2 + 5 * draws_per_step
    assert set(shapes) == {(2, 1, *GRID)}
    assert torch.equal(torch.get_rng_state(), before)


def test_global_generators_are_neither_read_nor_moved():
    inputs, results = example(), []
    inferer = LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=3)
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)
        state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
        results.append(inferer(inputs, FakeNetwork(), seeds=[4, 5]))
        assert torch.equal(torch.get_rng_state(), state)
        assert (np.random.get_state()[1] == numpy_state).all()
    assert torch.equal(*results)


@pytest.mark.parametrize("context", CONTEXTS)
def test_sample_does_not_depend_on_what_shares_its_batch(context):
    inputs, condition, seeds = example(samples=3), histograms(samples=3), [7, 8, 9]
    inferer = LesionInpaintingInferer(
        NoiseSchedule(T),
        context=context,
        num_inference_steps=4,
        jump_length=2,
        jump_n_sample=2,
        guidance_scale=2.0,
    )
    together = inferer(inputs, FakeNetwork(), condition=condition, seeds=seeds)
    for k in range(3):
        alone = inferer(inputs[k : k + 1], FakeNetwork(), condition=condition[k : k + 1], seeds=seeds[k : k + 1])
        torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-5, atol=1e-6)
    turned = inferer(inputs.flip(0), FakeNetwork(), condition=condition.flip(0), seeds=seeds[::-1])
    torch.testing.assert_close(together, turned.flip(0), rtol=1e-5, atol=1e-6)


def test_seed_decides_the_lesion():
    inputs = example(samples=1)
    lesion = inputs[:, 1:] > 0
    inferer = LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=4)
    first, again, other = (inferer(inputs, FakeNetwork(), seeds=[seed])[lesion] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_run_seed_is_used_where_the_call_gives_none():
    inputs = example(samples=2)
    inputs[1] = inputs[0]

    def paint(seed):
        return LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=3, seed=seed)(inputs, FakeNetwork())

    assert torch.equal(paint(1), paint(1))
    assert not torch.equal(paint(1), paint(2))
    assert not torch.equal(paint(1)[0], paint(1)[1])


def test_wrong_number_of_seeds_is_refused():
    with pytest.raises(ValueError, match=r"3 seeds.*batch of 2"):
        LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=2)(example(), FakeNetwork(), seeds=[1, 2, 3])
