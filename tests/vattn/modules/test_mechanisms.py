"""Tests of every mechanism. They cover a new mechanism as soon as tests/vattn/reference/<file>.py exists, which has:

FORMS: class of nn.Module -> function (module, x) -> y that computes the formula as plainly as possible
CONFIGS: configs that together use each option
without_gradient (optional): config -> names of parameters whose gradient is always 0 in a fresh module
"""

import copy
import importlib
import re
from pathlib import Path
from types import ModuleType

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.vattn.counting import count_macs, model_activations, model_macs, use_reference_forms
from tests.vattn.support import model, place_of, site
from vattn.cost import cost
from vattn.insert import Folded
from vattn.model import build_model
from vattn.modules import ModuleConfig, Site


def reference(kind: str) -> ModuleType:
    file = ModuleConfig.kinds[kind].__module__.rpartition(".")[2]
    return importlib.import_module(f"tests.vattn.reference.{file}")


EVERY: dict[str, ModuleConfig] = {
    f"{kind}-{i}": config for kind in ModuleConfig.kinds for i, config in enumerate(reference(kind).CONFIGS)
}
every_mechanism = pytest.mark.parametrize("config", EVERY.values(), ids=EVERY)

FRAMES = 4


def site_for(config: ModuleConfig, height: int = 6, width: int = 5, channels: int = 32) -> Site:
    return site(channels, size=height, width=width, position=place_of(config))


def fresh(config: ModuleConfig, frames: int = FRAMES) -> nn.Module:
    torch.manual_seed(0)
    return config.build(site_for(config), frames).double()


def randomised(config: ModuleConfig) -> nn.Module:
    return with_random_weights(fresh(config))


def with_random_weights(module: nn.Module) -> nn.Module:
    """Return the module without special weights such as 0, which could hide an error."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, mean=0.1, std=0.5)
    return module


def clip(batch: int = 2, frames: int = FRAMES) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 32, frames, 6, 5, dtype=torch.double, generator=generator)


@every_mechanism
@pytest.mark.parametrize("training", [True, False])
def test_values_and_gradients_equal_the_reference(config: ModuleConfig, training: bool) -> None:
    module, x = randomised(config).train(training), clip().requires_grad_()
    plain, z = copy.deepcopy(module), clip().requires_grad_()
    use_reference_forms(plain)
    cotangent = torch.randn_like(x)

    y, expected = module(x), plain(z)
    y.backward(cotangent)
    expected.backward(cotangent)

    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(x.grad, z.grad)
    gradients = {name: parameter.grad for name, parameter in plain.named_parameters()}
    torch.testing.assert_close({name: parameter.grad for name, parameter in module.named_parameters()}, gradients)


def refusal_of(config: ModuleConfig, place: Site, frames: int) -> str:
    """Return the message with which the config refuses the site; empty if it accepts it."""
    try:
        config.check(place, frames)
    except ValueError as error:
        return str(error)
    return ""


@every_mechanism
@given(
    batch=st.integers(1, 2), frames=st.integers(2, 64), height=st.integers(4, 9), width=st.integers(4, 9),
    channels=st.integers(8, 40),
)  # fmt: skip
@settings(max_examples=8)
def test_shape_and_parameters_hold_for_any_features_or_these_are_refused(
    config: ModuleConfig, batch: int, frames: int, height: int, width: int, channels: int
) -> None:
    place = site_for(config, height, width, channels)
    if refusal := refusal_of(config, place, frames):
        # A reduction need not divide the channels, but must leave at least one.
        rule, way_out = r"\w+: must (divide|not exceed) the channels.*, of which .*", r"(lower|take|try) .*\(got \d+\)"
        assert re.fullmatch(f"{rule}; {way_out}", refusal)
        return
    module = config.build(place, frames).eval()
    shape = (batch, channels, frames, height, width)

    assert module(torch.randn(shape)).shape == shape
    assert config.params(place, frames) == sum(p.numel() for p in module.parameters())


@every_mechanism
def test_gradient_of_every_parameter_of_a_fresh_mechanism_is_not_zero(config: ModuleConfig) -> None:
    module = fresh(config).train()
    x = clip().requires_grad_()
    module(x).backward(torch.randn_like(x))

    # A gradient that is 0 by the formula is a rounding error of float64, at most 2e-11; all others are above 1e-2.
    zero = {name for name, p in module.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-8}

    without_gradient = getattr(reference(config.kind), "without_gradient", lambda config: set())
    assert zero == without_gradient(config)


@every_mechanism
def test_reversed_clips_give_reversed_features_exactly_if_declared(config: ModuleConfig) -> None:
    module, x = randomised(config).eval(), clip()

    difference = (module(x.flip(2)) - module(x).flip(2)).abs().max().item()

    assert (difference < 1e-9) == config.reversal_equivariant, difference


ALL = [0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"kind": "action", "paths": ["me"]}, [1, 2, 3, 4]),  # the shift, then the next frame
        ({"kind": "action", "paths": ["ce"], "reduction": 2}, [1, 2, 3, 4, 5]),
        ({"kind": "action", "paths": ["ste"]}, [1, 2, 3, 4, 5]),
        ({"kind": "c2d_pool"}, [2, 3, 4]),
        ({"kind": "c2d_tconv", "kernel_size": 5}, [1, 2, 3, 4, 5]),
        ({"kind": "cstl"}, [1, 2, 3, 4, 5]),
        ({"kind": "cstl", "term": "long"}, ALL),
        ({"kind": "i3d"}, [2, 3, 4]),
        ({"kind": "m2a"}, ALL),
        ({"kind": "m2a", "attention": "none"}, [2, 3]),
        ({"kind": "m2a", "motion": "tdn", "attention": "none"}, [2, 3, 4]),
        # Three splits with one convolution each; each split adds the output of the one before.
        ({"kind": "mta"}, [0, 1, 2, 3, 4, 5, 6]),
        ({"kind": "nonlocal"}, ALL),
        ({"kind": "se"}, [3]),
        ({"kind": "se", "squeeze": "clip"}, ALL),
        ({"kind": "tam"}, ALL),  # its kernel depends on all frames
        ({"kind": "tam", "branches": "global"}, ALL),
        ({"kind": "tam", "branches": "global", "kernel_size": 1}, [3]),  # one tap that sums to 1
        ({"kind": "tam", "branches": "local"}, [2, 3, 4]),
        ({"kind": "tam", "branches": "local", "local_kernel_size": 5}, [1, 2, 3, 4, 5]),
        ({"kind": "tdn"}, [1, 2, 3, 4, 5]),
        ({"kind": "tdn", "shift": False}, [2, 3, 4]),
        ({"kind": "tea"}, [2, 3]),
        ({"kind": "tsm"}, [2, 3, 4]),
        ({"kind": "tsm", "online": True}, [3, 4]),
    ],
    ids=str,
)
def test_frame_affects_exactly_the_frames_of_the_formula(options: dict, expected: list[int]) -> None:
    config = ModuleConfig.kinds[options["kind"]].parse(options)
    assert isinstance(config, ModuleConfig)
    place = site(32, 6, 5, block=1, position=place_of(config))
    module = with_random_weights(config.build(place, len(ALL)).double()).eval()
    x = clip(frames=len(ALL))
    changed_x = x.clone()
    changed_x[0, :, 3] += torch.randn_like(x[0, :, 3])

    changed = ((module(x) - module(changed_x)).abs() > 1e-12).any(dim=1).flatten(2).any(2)

    assert changed[0].nonzero().flatten().tolist() == expected
    assert not changed[1].any()


@every_mechanism
def test_memory_format_changes_no_value(config: ModuleConfig) -> None:
    module, x = randomised(config).eval(), clip()

    torch.testing.assert_close(module(x.to(memory_format=torch.channels_last_3d)), module(x))


@every_mechanism
def test_autocast_keeps_features_in_half_precision(config: ModuleConfig) -> None:
    module = fresh(config).float()

    with torch.autocast("cpu", torch.bfloat16):
        y = module(clip().bfloat16())

    assert y.dtype == torch.bfloat16
    assert y.isfinite().all()


@every_mechanism
def test_parameters_and_macs_equal_the_counted_ones(config: ModuleConfig) -> None:
    with torch.device("meta"):
        module = config.build(site_for(config), FRAMES)
        x = torch.empty(1, 32, FRAMES, 6, 5)
    use_reference_forms(module)

    assert config.params(site_for(config), FRAMES) == sum(p.numel() for p in module.parameters())
    assert config.macs(site_for(config), FRAMES) == count_macs(module, x)


@pytest.mark.medium
@every_mechanism
def test_cost_of_a_network_with_the_mechanism_equals_the_counted_cost(config: ModuleConfig) -> None:
    place = place_of(config)
    attention = config.tree() | {"position": place, "stages": [3, 4]}
    network = model(attention, depth=50 if place.startswith("conv") else 10, width=0.5, size=64)

    total = cost(network, 7)

    assert total.macs == model_macs(network, 7)
    assert total.activations == model_activations(network, 7)


@every_mechanism
def test_init_identity_returns_the_input_or_is_refused(config: ModuleConfig) -> None:
    tree = config.tree() | {"init": "identity"}

    if config.no_identity:
        with pytest.raises(ValueError, match="use default"):
            type(config).parse(tree)
    else:
        torch.testing.assert_close(type(config).parse(tree).build(site_for(config), FRAMES).double()(clip()), clip())


@pytest.mark.parametrize("config", [config for config in EVERY.values() if not config.no_identity])
def test_trained_network_has_the_same_outputs_with_a_mechanism_that_starts_as_the_identity(
    config: ModuleConfig, tmp_path: Path
) -> None:
    place = place_of(config)
    backbone = {"kind": "resnet", "depth": 50 if place == "conv1" else 10, "width": 0.5}
    trained = build_model(model(backbone=backbone), 5).eval()
    for norm_values in (values for values in trained.backbone.state_dict().values() if values.dim() == 1):
        nn.init.uniform_(norm_values, 0.5, 1.5)
    torch.save(trained.backbone.state_dict(), tmp_path / "trained.pth")
    attention = config.tree() | {"init": "identity", "position": place, "stages": [2, 3, 4], "every": 1}
    extended = build_model(model(attention, backbone=backbone | {"weights": str(tmp_path / "trained.pth")}), 5).eval()
    extended.fc.load_state_dict(trained.fc.state_dict())
    clips = torch.randn(2, 3, FRAMES, 32, 32)

    assert any(isinstance(m, Folded) for m in extended.modules())
    torch.testing.assert_close(extended(clips), trained(clips))


@every_mechanism
def test_canonical_config_builds_the_same_mechanism(config: ModuleConfig) -> None:
    canonical = config.canonical()

    assert canonical.canonical() == canonical
    torch.testing.assert_close(fresh(canonical).eval()(clip()), fresh(config).eval()(clip()), rtol=0, atol=0)


@every_mechanism
def test_config_is_parsed_from_its_tree(config: ModuleConfig) -> None:
    assert type(config).parse(config.tree()) == config


@pytest.mark.slow
@every_mechanism
def test_compiled_and_exported_mechanisms_give_the_same_values(
    config: ModuleConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the compiler cannot read its assertions
    torch.compiler.reset()
    module, x = randomised(config).eval(), clip()

    torch.testing.assert_close(torch.compile(module, fullgraph=True)(x), module(x))
    torch.testing.assert_close(torch.export.export(module, (x,)).module()(x), module(x))
