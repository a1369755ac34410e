"""TAM: values that are computed by hand, gradients and costs."""

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vattn.support import Always, model, site
from vattn.modules.tam import TAMConfig, aggregate


def ramp(channels: int = 4) -> torch.Tensor:
    return torch.arange(1.0, 5.0).view(1, 1, 4, 1, 1).expand(1, channels, 4, 2, 2)


def test_ramp_is_gated_then_smoothed() -> None:
    # x_t = 1, 2, 3, 4; gate 1/2 -> 0.5, 1, 1.5, 2; taps (1, 2, 1) / 4, zero padded at both ends.
    tam = TAMConfig(kernel_size=3).build(site(channels=4, size=2), frames=4).eval()
    tam.gate = Always(torch.full((1, 4, 4), 0.5))
    tam.kernel = Always(torch.tensor([[0.25, 0.5, 0.25]]).expand(4, 3))

    y = tam(ramp())

    expected = torch.tensor([0.5, 1.0, 1.5, 1.375]).view(1, 1, 4, 1, 1)
    torch.testing.assert_close(y, expected.expand(1, 4, 4, 2, 2))


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        # Taps (1, 0, 0) take the previous frame. Gate first: 0, 1/2 x_1, x_2, x_3; gate last: 0, x_1, x_2, x_3.
        ("local_first", [0.0, 0.5, 2.0, 3.0]),
        ("global_first", [0.0, 1.0, 2.0, 3.0]),
    ],
)
def test_order_determines_which_frame_is_gated(order: str, expected: list[float]) -> None:
    tam = TAMConfig.parse({"order": order}).build(site(channels=4, size=2), frames=4).eval()
    tam.gate = Always(torch.tensor([0.5, 1.0, 1.0, 1.0]).expand(1, 4, 4))
    tam.kernel = Always(torch.tensor([[1.0, 0.0, 0.0]]).expand(4, 3))

    y = tam(ramp())

    torch.testing.assert_close(y, torch.tensor(expected).view(1, 1, 4, 1, 1).expand(1, 4, 4, 2, 2))


def test_aggregation_is_a_cross_correlation_with_zero_padding() -> None:
    # Clip s is 1 in frame s and 0 elsewhere, so frame t of its output is the weight of s for t.
    x = torch.eye(3).view(3, 1, 3, 1, 1)

    y = aggregate(x, torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]).expand(3, 1, 3, 5))

    # Tap 2 multiplies the frame itself; later frames have later taps.
    assert y.view(3, 3).T.tolist() == [[3, 4, 5], [2, 3, 4], [1, 2, 3]]


@pytest.mark.medium
@pytest.mark.parametrize("memory", ["N C T H W", "N T C H W", "N T H W C"])
@given(k=st.sampled_from([1, 3, 7]), t=st.integers(2, 4))
@settings(max_examples=8)
def test_gradients_are_exact_and_the_memory_format_is_kept(memory: str, k: int, t: int) -> None:
    shape = dict(zip("NCTHW", (2, 3, t, 2, 3), strict=True))
    order = memory.split()
    memory_first = torch.randn([shape[axis] for axis in order], dtype=torch.double)
    x = memory_first.permute([order.index(axis) for axis in "NCTHW"]).requires_grad_()
    weights = torch.randn(2, 3, t, k, dtype=torch.double, requires_grad=True)

    assert torch.autograd.gradcheck(aggregate, (x, weights))
    assert aggregate(x, weights).stride() == x.stride()


def test_second_derivative_is_refused() -> None:
    x = torch.randn(1, 2, 3, 2, 2, requires_grad=True)
    y = aggregate(x, torch.randn(1, 2, 3, 3))

    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


@given(k=st.sampled_from([1, 3, 5, 7]), t=st.integers(2, 16))
def test_any_odd_kernel_keeps_the_shape(k: int, t: int) -> None:
    tam = TAMConfig(kernel_size=k).build(site(channels=8, size=5), frames=t).eval()

    assert tam(torch.randn(2, 8, t, 5, 5)).shape == (2, 8, t, 5, 5)


@pytest.mark.slow
def test_compiled_aggregation_has_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the compiler cannot read its assertions
    torch.compiler.reset()
    x = torch.randn(2, 3, 4, 5, 5, dtype=torch.double, requires_grad=True)
    weights = torch.randn(2, 3, 4, 5, dtype=torch.double, requires_grad=True)
    cotangent = torch.randn_like(x)

    compiled = torch.autograd.grad(torch.compile(aggregate, fullgraph=True)(x, weights), (x, weights), cotangent)

    torch.testing.assert_close(compiled, torch.autograd.grad(aggregate(x, weights), (x, weights), cotangent))


def test_default_sizes_have_the_parameters_of_the_paper() -> None:
    # C = 64, T = 8, alpha = 2, beta = 4, K = 3. Global: linear 8 x 16, norm 2 x 16, linear 16 x 3. Local: convolution
    # 64 x 16 x 3, norm 2 x 16, convolution 16 x 64.
    tam = TAMConfig().build(site(channels=64), frames=8)

    assert sum(p.numel() for p in tam.parameters()) == 128 + 32 + 48 + 3072 + 32 + 1024
    # Linear layers once per channel, convolutions once per frame, K products for each of the 6 x 6 pixels.
    assert TAMConfig().macs(site(channels=64, size=6), 8) == 64 * (128 + 48) + 8 * (3072 + 1024) + 3 * 64 * 8 * 36


@pytest.mark.parametrize("option", ["kernel_size", "local_kernel_size"])
def test_even_kernel_is_refused_and_the_next_odd_one_is_suggested(option: str) -> None:
    with pytest.raises(ValueError, match="try 5"):
        TAMConfig.parse({option: 4})


def test_beta_that_leaves_no_channel_is_refused_by_the_model() -> None:
    # Width 0.25: stage 2 has 16 channels.
    with pytest.raises(ValueError, match=r"attention\[0\].beta: must not exceed.*stage 2 has 16.*got 17"):
        model({"kind": "tam", "beta": 17})
    model({"kind": "tam", "beta": 17, "stages": [3, 4, 5]})
    model({"kind": "tam", "beta": 17, "branches": "global"})
