"""The published network against a plain transcription of the same operations, and what its users rely on."""

from __future__ import annotations

import pytest
import torch
from plain_factorised_unet import plain_forward

from custom_components.errors import InputError
from custom_components.networks import FactorisedUNet, axial_attention
from custom_components.networks.axial_attention import RelativePositionBias

TINY = {"width": 8, "multipliers": (1, 2, 3), "num_heads": 2, "head_dim": 8}


def tiny(**settings) -> FactorisedUNet:
    """Every parameter differs from its initial value, those that begin at zero or one too."""
    torch.manual_seed(0)
    network = FactorisedUNet(**{**TINY, **settings})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        for name, buffer in network.named_buffers():
            if name.endswith("freqs"):
                buffer.mul_(torch.linspace(0.9, 1.1, len(buffer)))
    return network.eval()


def volume(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def histograms(count: int, classes: int = 1) -> torch.Tensor:
    return volume(count, classes, 16, seed=1).softmax(dim=-1)


def difference(first: torch.Tensor, second: torch.Tensor) -> float:
    return (first - second).abs().max().item()


@pytest.mark.parametrize(
    ("channels", "classes", "shape"),
    [
        ((1, 1), 1, (2, 3, 8, 12)),  # few slices, a plane that is no square
        ((2, 2), 2, (1, 1, 4, 4)),  # a single slice, the smallest plane
        ((2, 1), 0, (1, 40, 4, 4)),  # more slices than the position bias tells apart
    ],
)
def test_output_equals_the_plain_transcription(channels, classes, shape):
    network = tiny(in_channels=channels[0], out_channels=channels[1], condition_dim=16 * classes, through_plane_axis=0)
    x, t = volume(shape[0], channels[0], *shape[1:]), torch.tensor([3, 250])[: shape[0]]
    context = histograms(shape[0], classes) if classes else None
    with torch.no_grad():
        for condition in (context, None):
            flat = None if condition is None else condition.flatten(1)
            expected = plain_forward(network.state_dict(), x, t, flat)
            assert expected.shape[1] == channels[1]
            torch.testing.assert_close(network(x, t, condition), expected, rtol=1e-5, atol=1e-5)


def test_pieces_that_fit_the_caches_give_the_same_output(monkeypatch):
    network, x, t = tiny(), volume(2, 1, 8, 8, 4), torch.tensor([3, 250])
    with torch.no_grad():
        whole = network(x, t)
        monkeypatch.setattr(axial_attention, "CPU_PIECE", 12)
        torch.testing.assert_close(network(x, t), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axis", [1, 2])
def test_through_plane_axis_only_says_where_the_slices_lie(axis):
    first, other = tiny(through_plane_axis=0), tiny(through_plane_axis=axis)
    x, t = volume(1, 1, 3, 4, 8), torch.tensor([100])
    with torch.no_grad():
        expected = first(x, t, histograms(1)).movedim(2, 2 + axis)
        torch.testing.assert_close(other(x.movedim(2, 2 + axis), t, histograms(1)), expected)


def test_default_through_plane_axis_is_z():
    network, x = tiny(), volume(1, 1, 4, 8, 3)
    with torch.no_grad():
        expected = plain_forward(network.state_dict(), x.permute(0, 1, 4, 2, 3), torch.tensor([9]))
        torch.testing.assert_close(network(x, torch.tensor([9])), expected.permute(0, 1, 3, 4, 2), rtol=1e-5, atol=1e-5)


def test_order_of_the_slices_matters():
    network, x, t = tiny(), volume(1, 1, 8, 8, 4), torch.tensor([9])
    with torch.no_grad():
        assert difference(network(x.flip(-1), t), network(x, t).flip(-1)) > 1e-3


def test_near_slices_have_buckets_of_their_own_and_far_ones_share():
    bucket = RelativePositionBias(heads=1).bucket(64)
    behind, ahead = bucket[63].flip(0), bucket[0]
    assert behind[:9].tolist() == list(range(9))
    assert ahead[1:9].tolist() == list(range(17, 25))
    # 8 + floor(8 log(distance / 8) / log(32 / 8)), at most 15
    assert behind[[9, 11, 12, 16, 23, 31, 32, 63]].tolist() == [8, 9, 10, 12, 14, 15, 15, 15]
    assert torch.equal(ahead[1:], behind[1:] + 16)


@pytest.mark.parametrize("classes", [1, 2])
def test_context_may_be_flat_and_zeros_or_none_are_the_null_condition(classes):
    network = tiny(in_channels=classes, out_channels=classes, condition_dim=16 * classes)
    x, t, context = volume(2, classes, 4, 4, 2), torch.tensor([3, 250]), histograms(2, classes)
    context[1] = 0
    with torch.no_grad():
        output, null = network(x, t, context), network(x, t)
        assert torch.equal(network(x, t, context.flatten(1)), output)
        assert torch.equal(network(x, t, torch.zeros_like(context)), null)
        assert difference(output[0], null[0]) > 1e-3
        torch.testing.assert_close(output[1], null[1])


def test_network_without_condition_ignores_the_context():
    network, x, t = tiny(condition_dim=0), volume(1, 1, 4, 4, 2), torch.tensor([3])
    with torch.no_grad():
        assert torch.equal(network(x, t, histograms(1)), network(x, t))


def test_samples_of_a_batch_do_not_mix():
    network, x, t, context = tiny(), volume(2, 1, 8, 8, 3), torch.tensor([3, 250]), histograms(2)
    with torch.no_grad():
        together = network(x, t, context)
        for k in range(2):
            alone = network(x[k : k + 1], t[k : k + 1], context[k : k + 1])
            torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-4, atol=1e-5)


def test_every_parameter_is_trained_with_the_plain_transcription_s_gradient():
    network, x, t = tiny(through_plane_axis=0).train(), volume(2, 1, 3, 4, 4), torch.tensor([3, 250])
    context = histograms(2)
    context[1] = 0
    network(x, t, context).square().mean().backward()
    gradients = {name: p.grad.clone() for name, p in network.named_parameters()}
    network.zero_grad()
    state = dict(network.named_parameters()) | dict(network.named_buffers())
    parts = [plain_forward(state, x[:1], t[:1], context[:1, 0]), plain_forward(state, x[1:], t[1:])]
    torch.cat(parts).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert gradients[name].any(), name
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_rotary_frequencies_are_weights_that_training_leaves_alone():
    names = {name for name, _ in tiny().named_buffers()}
    assert "downs.0.3.rotary_emb.freqs" in names
    assert names <= set(tiny().state_dict())


@pytest.mark.parametrize(("size", "fits"), [((8, 12, 3), True), ((8, 6, 4), False), ((2, 8, 4), False)])
def test_plane_must_be_divisible_and_the_number_of_slices_need_not(size, fits):
    network = tiny()
    if fits:
        network.check_size(size)
        with torch.no_grad():
            assert network(volume(1, 1, *size), torch.tensor([0])).shape == (1, 1, *size)
    else:
        with pytest.raises(InputError, match=r"spatial_size must be multiples of 4 .* got"):
            network.check_size(size)


@pytest.mark.parametrize("settings", [{"through_plane_axis": 3}, {"width": 12}])
def test_settings_that_make_no_network_are_named(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        tiny(**settings)


def test_output_is_finite_and_close_under_bfloat16():
    network, x, t = tiny(), volume(1, 1, 8, 8, 4), torch.tensor([3])
    with torch.no_grad():
        expected = network(x, t, histograms(1))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = network(x, t, histograms(1))
    assert torch.isfinite(output).all()
    assert (output.float() - expected).square().mean() < 0.01 * expected.square().mean()


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_traced_network_gives_the_same_output():
    network = tiny()
    traced = torch.jit.trace(network, (volume(1, 1, 4, 4, 3), torch.tensor([3]), histograms(1)), check_trace=False)
    x, t = volume(1, 1, 4, 4, 3, seed=5), torch.tensor([200])
    with torch.no_grad():
        torch.testing.assert_close(traced(x, t, histograms(1)), network(x, t, histograms(1)))
