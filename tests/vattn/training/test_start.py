"""Initial networks: which weights are loaded from a file, which are new, and the effect on identities."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from vattn.canonical import trial_id
from vattn.config import TrainConfig, TrialConfig
from vattn.data import prepare
from vattn.errors import UserError
from vattn.model import VideoModel, build_model
from vattn.training.fit import fit
from vattn.training.start import start
from vattn.weights import State

TEA = {"kind": "tea", "reduction": 4, "stages": [2, 3]}
TAM = {"kind": "tam", "stages": [3], "beta": 2}
CLIPS = torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))


def trial(*attention: dict[str, Any], init: str = "scratch", depth: int = 10, **train: Any) -> TrialConfig:
    return TrialConfig.parse({
        "data": {"kind": "motion", "train_clips": 2, "val_clips": 1, "size": 32, "store": {"size": 32}},
        "model": {
            "frames": 4, "size": 32, "backbone": {"kind": "resnet", "depth": depth, "width": 0.25},
            "attention": list(attention),
        },
        "train": {"epochs": 1, "batch": 16, "lr": 0.05, "init": init} | train,
    })  # fmt: skip


def started(config: TrialConfig) -> VideoModel:
    torch.manual_seed(1)
    return start(config).eval()


def trained_state(*attention: dict[str, Any], depth: int = 10) -> State:
    """Return weights that no new network has."""
    net = build_model(trial(*attention, depth=depth).model, 16)
    for values in net.state_dict().values():
        if values.is_floating_point():
            nn.init.uniform_(values, 0.1, 0.2)
    return net.state_dict()


def saved(state: State, folder: Path) -> str:
    torch.save(dict(state), folder / "weights.pt")
    return str(folder / "weights.pt")


def loaded(net: nn.Module, state: State) -> set[str]:
    """Return the names of the floating-point entries of ``net`` that equal those of ``state``."""
    own = net.state_dict()
    return {name for name, v in own.items() if v.is_floating_point() and name in state and torch.equal(v, state[name])}


def test_a_network_with_an_identity_mechanism_starts_with_the_output_of_its_base(tmp_path: Path) -> None:
    state = trained_state()
    base = build_model(trial().model, 16).eval()
    base.load_state_dict(state)

    net = started(trial(TEA, init=saved(state, tmp_path)))

    torch.testing.assert_close(net(CLIPS), base(CLIPS))


def test_a_mechanism_that_replaces_a_layer_starts_from_its_trained_weights(tmp_path: Path) -> None:
    state = trained_state(depth=50)
    base = build_model(trial(depth=50).model, 16).eval()
    base.load_state_dict(state)

    net = started(trial({"kind": "i3d", "stages": [3]}, depth=50, init=saved(state, tmp_path)))

    assert "backbone.layer2.0.conv1.weight" not in net.state_dict()
    torch.testing.assert_close(net(CLIPS), base(CLIPS))


def test_mechanisms_in_the_file_are_loaded_and_others_start_as_the_identity(tmp_path: Path) -> None:
    state = trained_state(TEA | {"stages": [2]})
    parent = build_model(trial(TEA | {"stages": [2]}).model, 16).eval()
    parent.load_state_dict(state)

    net = started(trial(TEA, init=saved(state, tmp_path)))

    assert {name for name in state if state[name].is_floating_point()} == loaded(net, state)
    torch.testing.assert_close(net(CLIPS), parent(CLIPS))


def test_a_mechanism_is_loaded_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    # With another alpha, the gate has the same shapes and the kernel has not.
    state = trained_state(TAM)
    net = started(trial(TAM | {"alpha": 4}, init=saved(state, tmp_path)))

    assert any(".gate." in name for name in state)
    assert not any(".at." in name for name in loaded(net, state))
    assert {name for name in state if ".at." not in name and state[name].is_floating_point()} == loaded(net, state)


def test_a_deeper_backbone_loads_the_blocks_that_both_have(tmp_path: Path) -> None:
    state = trained_state(depth=10)
    net = started(trial(depth=18, init=saved(state, tmp_path)))

    assert loaded(net, state) == {name for name in state if state[name].is_floating_point()}
    assert any("layer1.1" in name for name in net.state_dict())


def test_weights_without_a_matching_layer_are_refused(tmp_path: Path) -> None:
    file = saved({f"other.{name}": value for name, value in trained_state().items()}, tmp_path)

    with pytest.raises(UserError, match=r"train\.init: .*weights\.pt has no layer of this network"):
        start(trial(init=file))
    with pytest.raises(UserError, match=r"train\.init: there is no file .*gone\.pt; write scratch"):
        start(trial(init=str(tmp_path / "gone.pt")))


@pytest.mark.parametrize("init", ["base", "parent", "weights.pt", ""])
def test_init_is_a_known_word_or_an_absolute_path(init: str) -> None:
    with pytest.raises(ValidationError, match=r"scratch, identity, or the absolute path of a state dict"):
        TrainConfig(epochs=1, batch=1, lr=0.1, init=init)


def test_init_identity_of_the_training_equals_init_identity_of_each_mechanism() -> None:
    by_mechanism = trial(TEA | {"init": "identity"}, TAM)
    by_training = trial(TEA, TAM, init="identity")

    torch.testing.assert_close(started(by_training).state_dict(), started(by_mechanism).state_dict(), rtol=0, atol=0)
    assert trial_id(by_training) == trial_id(by_mechanism) != trial_id(trial(TEA, TAM))
    assert trial_id(trial(TAM, init="identity")) == trial_id(trial(TAM))


def test_trials_with_different_initial_weights_have_different_identities() -> None:
    from_files = [trial(TEA, init=f"/weights/{name}.pt") for name in "ab"]
    assert len({trial_id(config) for config in (*from_files, trial(TEA), trial(TEA, init="identity"))}) == 4


@pytest.mark.medium
def test_training_starts_from_the_file_and_resumes_without_it(tmp_path: Path) -> None:
    # With a learning rate of almost 0, training does not change the weights. Only running statistics change.
    state = trained_state()
    config = trial(TEA, init=saved(state, tmp_path), lr=1e-12, weight_decay=0.0)
    cache = prepare(config.data, tmp_path)

    (epoch,) = fit(config, cache, tmp_path / "run")
    (resumed,) = fit(config, cache, tmp_path / "run")

    end = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    weights = [name for name in state if "running" not in name and state[name].is_floating_point()]
    assert weights
    for name in weights:
        torch.testing.assert_close(end[name], state[name])
    assert resumed == epoch
