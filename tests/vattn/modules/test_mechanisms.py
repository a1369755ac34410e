"""What holds for every mechanism. One that is added is covered as soon as tests/vattn/reference/<kind>.py is there:

FORMS: its nn.Module class -> the formula in the plainest writing, (module, x) -> y
CONFIGS: recipes that together use each option
without_gradient: a recipe -> the parameters that its form keeps a fresh module from learning in training, if any
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


def here(config: ModuleConfig, height: int = 6, width: int = 5, channels: int = 32) -> Site:
    return site(channels, size=height, width=width, position=place_of(config))


def fresh(config: ModuleConfig, frames: int = FRAMES) -> nn.Module:
    torch.manual_seed(0)
    return config.build(here(config), frames).double()


def lively(config: ModuleConfig) -> nn.Module:
    return with_lively_weights(fresh(config))


def with_lively_weights(module: nn.Module) -> nn.Module:
    """No weight is at 0 or at any other special value, so that nothing hides."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, mean=0.1, std=0.5)
    return module


def clip(batch: int = 2, frames: int = FRAMES) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 32, frames, 6, 5, dtype=torch.double, generator=generator)


@every_mechanism
@pytest.mark.parametrize("training", [True, False])
def test_values_and_gradients_are_those_of_the_plain_formula(config: ModuleConfig, training: bool) -> None:
    module, x = lively(config).train(training), clip().requires_grad_()
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


def refused(config: ModuleConfig, place: Site, frames: int) -> str:
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
def test_any_features_keep_their_shape_and_cost_or_are_refused_with_the_way_out(
    config: ModuleConfig, batch: int, frames: int, height: int, width: int, channels: int
) -> None:
    place = here(config, height, width, channels)
    if refusal := refused(config, place, frames):
        # A reduction rounds down, so that it need not divide the channels; but it must leave one.
        rule, way_out = r"\w+: must (divide|not exceed) the channels.*, of which .*", r"(lower|take|try) .*\(got \d+\)"
        assert re.fullmatch(f"{rule}; {way_out}", refusal)
        return
    module = config.build(place, frames).eval()
    shape = (batch, channels, frames, height, width)

    assert module(torch.randn(shape)).shape == shape
    assert config.params(place, frames) == sum(p.numel() for p in module.parameters())


@every_mechanism
def test_gradients_reach_every_parameter_of_a_fresh_mechanism(config: ModuleConfig) -> None:
    module = fresh(config).train()
    x = clip().requires_grad_()
    module(x).backward(torch.randn_like(x))

    # What cancels out by form leaves the rounding errors of double precision.
    stuck = {name for name, p in module.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-11}

    without_gradient = getattr(reference(config.kind), "without_gradient", lambda config: set())
    assert stuck == without_gradient(config)


@every_mechanism
def test_reversed_clips_give_reversed_features_exactly_where_declared(config: ModuleConfig) -> None:
    module, x = lively(config).eval(), clip()

    difference = (module(x.flip(2)) - module(x).flip(2)).abs().max().item()

    assert (difference < 1e-9) == config.reversal_equivariant, difference


ALL = [0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"kind": "action", "paths": ["me"]}, [1, 2, 3, 4]),  # the shift, and behind it the next frame
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
        # Three splits of one convolution each, every one of which is handed what the one before has seen.
        ({"kind": "mta"}, [0, 1, 2, 3, 4, 5, 6]),
        ({"kind": "nonlocal"}, ALL),
        ({"kind": "se"}, [3]),
        ({"kind": "se", "squeeze": "clip"}, ALL),
        ({"kind": "tam"}, ALL),  # its kernel is of all frames
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
def test_a_frame_reaches_exactly_the_frames_that_the_formula_says(recipe: dict, expected: list[int]) -> None:
    config = ModuleConfig.kinds[recipe["kind"]].parse(recipe)
    assert isinstance(config, ModuleConfig)
    place = site(32, 6, 5, block=1, position=place_of(config))
    module = with_lively_weights(config.build(place, len(ALL)).double()).eval()
    x = clip(frames=len(ALL))
    other = x.clone()
    other[0, :, 3] += torch.randn_like(x[0, :, 3])

    changed = ((module(x) - module(other)).abs() > 1e-12).any(dim=1).flatten(2).any(2)

    assert changed[0].nonzero().flatten().tolist() == expected
    assert not changed[1].any()


@every_mechanism
def test_memory_layout_changes_no_value(config: ModuleConfig) -> None:
    module, x = lively(config).eval(), clip()

    torch.testing.assert_close(module(x.to(memory_format=torch.channels_last_3d)), module(x))


@every_mechanism
def test_autocast_keeps_features_in_half_precision(config: ModuleConfig) -> None:
    module = fresh(config).float()

    with torch.autocast("cpu", torch.bfloat16):
        y = module(clip().bfloat16())

    assert y.dtype == torch.bfloat16
    assert y.isfinite().all()


@every_mechanism
def test_parameters_and_macs_are_those_of_the_formula(config: ModuleConfig) -> None:
    with torch.device("meta"):
        module = config.build(here(config), FRAMES)
        x = torch.empty(1, 32, FRAMES, 6, 5)
    use_reference_forms(module)

    assert config.params(here(config), FRAMES) == sum(p.numel() for p in module.parameters())
    assert config.macs(here(config), FRAMES) == count_macs(module, x)


@every_mechanism
def test_cost_of_a_network_with_it_is_what_is_counted(config: ModuleConfig) -> None:
    place = place_of(config)
    recipe = config.tree() | {"position": place, "stages": [3, 4]}
    network = model(recipe, depth=50 if place.startswith("conv") else 10, width=0.5, size=64)

    total = cost(network, 7)

    assert total.macs == model_macs(network, 7)
    assert total.activations == model_activations(network, 7)


@every_mechanism
def test_init_identity_changes_nothing_or_is_refused(config: ModuleConfig) -> None:
    recipe = config.tree() | {"init": "identity"}

    if config.no_identity:
        with pytest.raises(ValueError, match="use default"):
            type(config).parse(recipe)
    else:
        torch.testing.assert_close(type(config).parse(recipe).build(here(config), FRAMES).double()(clip()), clip())


@pytest.mark.parametrize("config", [config for config in EVERY.values() if not config.no_identity])
def test_a_trained_network_goes_on_as_it_was_with_a_mechanism_that_starts_as_the_identity(
    config: ModuleConfig, tmp_path: Path
) -> None:
    place = place_of(config)
    backbone = {"kind": "resnet", "depth": 50 if place == "conv1" else 10, "width": 0.5}
    trained = build_model(model(backbone=backbone), 5).eval()
    for of_norm in (values for values in trained.backbone.state_dict().values() if values.dim() == 1):
        nn.init.uniform_(of_norm, 0.5, 1.5)
    torch.save(trained.backbone.state_dict(), tmp_path / "trained.pth")
    recipe = config.tree() | {"init": "identity", "position": place, "stages": [2, 3, 4], "every": 1}
    extended = build_model(model(recipe, backbone=backbone | {"weights": str(tmp_path / "trained.pth")}), 5).eval()
    extended.fc.load_state_dict(trained.fc.state_dict())
    clips = torch.randn(2, 3, FRAMES, 32, 32)

    assert any(isinstance(m, Folded) for m in extended.modules())
    torch.testing.assert_close(extended(clips), trained(clips))


@every_mechanism
def test_the_canonical_recipe_builds_the_same_mechanism(config: ModuleConfig) -> None:
    same = config.canonical()

    assert same.canonical() == same
    torch.testing.assert_close(fresh(same).eval()(clip()), fresh(config).eval()(clip()), rtol=0, atol=0)


@every_mechanism
def test_a_recipe_is_what_its_tree_says(config: ModuleConfig) -> None:
    assert type(config).parse(config.tree()) == config


@pytest.mark.slow
@every_mechanism
def test_compiled_and_exported_mechanisms_give_the_same(config: ModuleConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the compiler cannot read its assertions
    torch.compiler.reset()
    module, x = lively(config).eval(), clip()

    torch.testing.assert_close(torch.compile(module, fullgraph=True)(x), module(x))
    torch.testing.assert_close(torch.export.export(module, (x,)).module()(x), module(x))
