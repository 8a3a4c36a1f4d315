"""Seeds and per-sample noise."""

from __future__ import annotations

import hashlib

import pytest
import torch

from custom_components.seeds import PerSampleNoise, derive_seed


def test_seed_is_the_same_on_every_machine():
    digest = hashlib.sha256(b"7\x1fcase_a\x1f2").hexdigest()
    assert derive_seed(7, "case_a", 2) == int(digest[:16], 16) // 2


def test_seeds_differ_with_every_part_and_with_their_order():
    seeds = [
        derive_seed(*parts)
        for parts in [
            (0, "a", 1),
            (1, "a", 1),
            (0, "b", 1),
            (0, "a", 2),
            (0, 1, "a"),
            (0, "a"),
            (0, "a1"),
            ("0a", 1),
        ]
    ]
    assert len(set(seeds)) == len(seeds)


def test_seeds_fit_a_signed_64_bit_integer():
    assert all(0 <= derive_seed(0, i) < 2**63 for i in range(200))
    assert max(derive_seed(0, i) for i in range(200)) > 2**62


def test_each_sample_has_the_noise_of_its_own_generator():
    like = torch.zeros(2, 1, 4, 3, 2)
    noise_fn = PerSampleNoise([11, 12])
    first, second = noise_fn(like), noise_fn(like)
    for row, seed in enumerate((11, 12)):
        generator = torch.Generator().manual_seed(seed)
        assert torch.equal(first[row], torch.randn(1, 4, 3, 2, generator=generator))
        assert torch.equal(second[row], torch.randn(1, 4, 3, 2, generator=generator))


def test_noise_does_not_depend_on_what_shares_the_batch():
    alone = PerSampleNoise([5])(torch.zeros(1, 1, 4, 4, 4))
    shared = PerSampleNoise([9, 5, 3])(torch.zeros(3, 1, 4, 4, 4))
    assert torch.equal(alone[0], shared[1])


def test_noise_is_standard_normal():
    noise = PerSampleNoise([1])(torch.zeros(1, 1, 24, 24, 24))
    assert abs(noise.mean().item()) < 0.04
    assert noise.std().item() == pytest.approx(1, abs=0.03)


def test_noise_takes_the_dtype_of_the_state():
    assert PerSampleNoise([1])(torch.zeros(1, 2, dtype=torch.float64)).dtype == torch.float64


def test_global_generators_are_not_touched():
    before = torch.get_rng_state()
    PerSampleNoise([1, 2])(torch.zeros(2, 1, 4, 4, 4))
    assert torch.equal(torch.get_rng_state(), before)


def test_wrong_number_of_seeds_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r"3 seeds.*batch of 2"):
        PerSampleNoise([1, 2, 3])(torch.zeros(2, 1))
