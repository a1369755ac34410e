"""What holds for every mechanism. One that is added is covered as soon as tests/vattn/reference/<kind>.py is there:

FORMS: its nn.Module class -> the formula in the plainest writing, (module, x) -> y
CONFIGS: recipes that together use each option
WITHOUT_GRADIENT: parameters that a fresh module does not learn from its first step on, with the reason, if any
"""

import copy
import importlib
from types import ModuleType

import jaxtyping
import pytest
import torch
from counting import count_macs, model_activations, model_macs, use_reference_forms
from hypothesis import given, settings
from hypothesis import strategies as st
from support import model, place_of, site
from torch import Tensor, nn

from vattn.cost import cost
from vattn.modules import ModuleConfig, Site


def reference(kind: str) -> ModuleType:
    file = ModuleConfig.kinds[kind].__module__.rpartition(".")[2]
    return importlib.import_module(f"reference.{file}")


EVERY = [
    pytest.param(config, id=f"{kind}-{i}")
    for kind in ModuleConfig.kinds
    for i, config in enumerate(reference(kind).CONFIGS)
]
every_mechanism = pytest.mark.parametrize("config", EVERY)

FRAMES = 4


def here(config: ModuleConfig, height: int = 6, width: int = 5) -> Site:
    return site(channels=32, size=height, width=width, position=place_of(config))


def fresh(config: ModuleConfig, frames: int = FRAMES) -> nn.Module:
    torch.manual_seed(0)
    return config.build(here(config), frames).double()


def lively(config: ModuleConfig) -> nn.Module:
    """A module with no weight at 0 or at any other special value, so that nothing hides."""
    module = fresh(config)
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


@every_mechanism
@given(batch=st.integers(1, 2), frames=st.integers(2, 64), height=st.integers(4, 9), width=st.integers(4, 9))
@settings(max_examples=8)
def test_the_shape_is_kept(config: ModuleConfig, batch: int, frames: int, height: int, width: int) -> None:
    module = config.build(here(config, height, width), frames).eval()
    shape = (batch, 32, frames, height, width)

    assert module(torch.randn(shape)).shape == shape


@every_mechanism
def test_gradients_reach_every_parameter_of_a_fresh_mechanism(config: ModuleConfig) -> None:
    module = fresh(config).train()
    x = clip().requires_grad_()
    module(x).backward(torch.randn_like(x))

    stuck = {name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()}

    expected = getattr(reference(config.kind), "WITHOUT_GRADIENT", {})
    assert stuck == set(expected) & dict(module.named_parameters()).keys()


@every_mechanism
def test_reversed_clips_give_reversed_features_exactly_where_declared(config: ModuleConfig) -> None:
    module, x = lively(config).eval(), clip()

    difference = (module(x.flip(2)) - module(x).flip(2)).abs().max().item()

    assert (difference < 1e-9) == config.reversal_equivariant, difference


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
