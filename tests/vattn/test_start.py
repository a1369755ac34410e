"""What a training starts from: which weights come from a file, which are fresh, and what that does to identities."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from vattn.canonical import trial_id
from vattn.config import TrainConfig, TrialConfig
from vattn.data import prepare
from vattn.model import VideoModel, build_model
from vattn.start import start
from vattn.train import fit
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


def lived(*attention: dict[str, Any], depth: int = 10) -> State:
    """Return weights that no fresh network has."""
    net = build_model(trial(*attention, depth=depth).model, 16)
    for values in net.state_dict().values():
        if values.is_floating_point():
            nn.init.uniform_(values, 0.1, 0.2)
    return net.state_dict()


def saved(state: State, folder: Path) -> str:
    torch.save(dict(state), folder / "weights.pt")
    return str(folder / "weights.pt")


def taken(net: nn.Module, state: State) -> set[str]:
    """Names of values that are those of ``state``."""
    own = net.state_dict()
    return {name for name, v in own.items() if v.is_floating_point() and name in state and torch.equal(v, state[name])}


def test_a_network_with_a_mechanism_that_can_be_the_identity_goes_on_as_its_base_was(tmp_path: Path) -> None:
    state = lived()
    base = build_model(trial().model, 16).eval()
    base.load_state_dict(state)

    net = started(trial(TEA, init=saved(state, tmp_path)))

    torch.testing.assert_close(net(CLIPS), base(CLIPS))


def test_a_mechanism_in_the_place_of_a_layer_adopts_what_the_layer_has_learnt(tmp_path: Path) -> None:
    state = lived(depth=50)
    base = build_model(trial(depth=50).model, 16).eval()
    base.load_state_dict(state)

    net = started(trial({"kind": "i3d", "stages": [3]}, depth=50, init=saved(state, tmp_path)))

    assert "backbone.layer2.0.conv1.weight" not in net.state_dict()
    torch.testing.assert_close(net(CLIPS), base(CLIPS))


def test_a_mechanism_that_the_file_has_comes_with_its_weights_and_a_further_one_starts_as_the_identity(
    tmp_path: Path,
) -> None:
    state = lived(TEA | {"stages": [2]})
    parent = build_model(trial(TEA | {"stages": [2]}).model, 16).eval()
    parent.load_state_dict(state)

    net = started(trial(TEA, init=saved(state, tmp_path)))

    assert {name for name in state if state[name].is_floating_point()} == taken(net, state)
    torch.testing.assert_close(net(CLIPS), parent(CLIPS))


def test_a_mechanism_comes_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    # With another alpha the gate has the same shapes, but not the kernel.
    state = lived(TAM)
    net = started(trial(TAM | {"alpha": 4}, init=saved(state, tmp_path)))

    assert any(".gate." in name for name in state)
    assert not any(".at." in name for name in taken(net, state))
    assert {name for name in state if ".at." not in name and state[name].is_floating_point()} == taken(net, state)


def test_a_deeper_backbone_takes_the_blocks_that_both_have(tmp_path: Path) -> None:
    state = lived(depth=10)
    net = started(trial(depth=18, init=saved(state, tmp_path)))

    assert taken(net, state) == {name for name in state if state[name].is_floating_point()}
    assert any("layer1.1" in name for name in net.state_dict())


def test_weights_of_a_network_with_nothing_in_common_are_refused(tmp_path: Path) -> None:
    file = saved({f"other.{name}": value for name, value in lived().items()}, tmp_path)

    with pytest.raises(ValueError, match=r"train\.init: .*weights\.pt has no layer of this network"):
        start(trial(init=file))
    with pytest.raises(ValueError, match=r"train\.init: there is no file .*gone\.pt; write scratch"):
        start(trial(init=str(tmp_path / "gone.pt")))


@pytest.mark.parametrize("init", ["base", "parent", "weights.pt", ""])
def test_a_start_is_a_word_or_an_absolute_path(init: str) -> None:
    with pytest.raises(ValidationError, match=r"scratch, identity, or the absolute path of a state dict"):
        TrainConfig(epochs=1, batch=1, lr=0.1, init=init)


def test_identity_by_training_is_identity_by_mechanism() -> None:
    by_hand = trial(TEA | {"init": "identity"}, TAM)
    by_training = trial(TEA, TAM, init="identity")

    torch.testing.assert_close(started(by_training).state_dict(), started(by_hand).state_dict(), rtol=0, atol=0)
    assert trial_id(by_training) == trial_id(by_hand) != trial_id(trial(TEA, TAM))
    assert trial_id(trial(TAM, init="identity")) == trial_id(trial(TAM))


def test_other_weights_to_start_with_are_another_trial() -> None:
    one, other = (trial(TEA, init=f"/weights/{name}.pt") for name in "ab")
    assert len({trial_id(config) for config in (one, other, trial(TEA), trial(TEA, init="identity"))}) == 4


def test_training_starts_there_and_resumes_without_looking_back(tmp_path: Path) -> None:
    # With a rate of next to nothing, what comes out is what went in; norms count batches, and follow their features.
    state = lived()
    config = trial(TEA, init=saved(state, tmp_path), lr=1e-12, weight_decay=0.0)
    cache = prepare(config.data, tmp_path)

    (epoch,) = fit(config, cache, tmp_path / "one")
    (again,) = fit(config, cache, tmp_path / "one")

    end = torch.load(tmp_path / "one" / "model.pt", weights_only=True)
    learnt = [name for name in state if "running" not in name and state[name].is_floating_point()]
    assert learnt
    for name in learnt:
        torch.testing.assert_close(end[name], state[name])
    assert again == epoch
