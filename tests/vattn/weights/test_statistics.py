"""`data.normalize: auto` follows the weights that a training starts from; other statistics are recorded."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.vattn.weights.plain import Plain, hara
from vattn.canonical import canonical_trial, trial_id
from vattn.config import TrialConfig
from vattn.model import build_model
from vattn.normalization import FLOW, IMAGENET, KINETICS, Statistics
from vattn.training.batches.pixels import normalise
from vattn.weights.statistics import recorded, stated, statistics

CPU = torch.device("cpu")
HARA = {"mean": [0.4345, 0.4051, 0.3775], "std": [0.2768, 0.2713, 0.2737], "scale": 1.0}


def trial(backbone: dict[str, Any] | None = None, normalize: Any = None, init: str = "scratch") -> TrialConfig:
    data = {"kind": "motion", "size": 32, "store": {"size": 32}} | ({"normalize": normalize} if normalize else {})
    return TrialConfig.parse({
        "data": data,
        "model": {"frames": 4, "size": 32, "backbone": backbone or {"kind": "resnet", "depth": 10, "width": 0.25}},
        "train": {"epochs": 1, "batch": 2, "lr": 0.1, "init": init},
    })  # fmt: skip


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Return a file of Hara's 3D ResNet with one bottleneck a stage."""
    weights = Plain()
    hara(weights, torch.zeros(1, 3, 4, 32, 32))
    torch.save({"state_dict": weights.state}, tmp_path / "hara.pth")
    return tmp_path / "hara.pth"


def test_pixels_are_normalised_as_the_statistics_say() -> None:
    images = torch.tensor([0, 100, 255], dtype=torch.uint8).view(1, 3, 1, 1, 1)

    by_share = normalise(images, CPU, Statistics(mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 1.0)))
    by_level = normalise(images, CPU, Statistics(mean=(10.0, 20.0, 30.0), std=(1.0, 2.0, 5.0), scale=255))

    torch.testing.assert_close(by_share.flatten(), torch.tensor([-2.0, (100 / 255 - 0.5) * 2, 0.5]))
    torch.testing.assert_close(by_level.flatten(), torch.tensor([-10.0, 40.0, 45.0]))


def test_imagenets_are_the_numbers_of_earlier_versions_bit_for_bit() -> None:
    images = torch.randint(256, (2, 4, 5, 5, 3), dtype=torch.uint8).permute(0, 4, 1, 2, 3)
    mean, std = (
        torch.tensor(v).view(3, 1, 1, 1) for v in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    )  # fmt: skip

    assert normalise(images, CPU, IMAGENET).equal(images.float().sub_(mean).div_(std))


def test_flow_has_two_channels() -> None:
    images = torch.full((1, 3, 2, 4, 4), 255, dtype=torch.uint8)

    assert normalise(images, CPU, FLOW).shape == (1, 2, 2, 4, 4)


@pytest.mark.parametrize(
    ("backbone", "normalize", "expected"),
    [
        (None, None, IMAGENET),
        (None, "kinetics", KINETICS),
        ({"kind": "resnet", "depth": 18, "weights": "default"}, None, IMAGENET),
        ({"kind": "r3d"}, None, IMAGENET),
        ({"kind": "r3d", "weights": "default"}, None, KINETICS),
        ({"kind": "mc3", "weights": "default"}, None, KINETICS),
        ({"kind": "r2plus1d", "weights": "default"}, "imagenet", IMAGENET),
        (None, HARA, Statistics.parse(HARA)),
    ],
)
def test_auto_follows_the_kind_of_the_weights(backbone: Any, normalize: Any, expected: Statistics) -> None:
    assert statistics(trial(backbone, normalize)).same(expected)


def test_a_file_of_published_weights_decides_and_is_recorded(published: Path) -> None:
    backbone = {"kind": "resnet3d", "depth": 14}
    by_init = trial(backbone, init=str(published))
    by_backbone = trial(backbone | {"weights": str(published)})
    for config in (by_init, by_backbone):
        assert statistics(config).same(Statistics.parse(HARA))
        assert stated(config.data, config.model.backbone).same(IMAGENET)
        again = recorded(config)
        assert isinstance(again.data.normalize, Statistics)
        assert again.data.normalize.same(Statistics.parse(HARA))
        assert recorded(again) == again
        # It does not change when the file is gone.
    kept = recorded(by_init)
    published.unlink()
    assert statistics(kept).same(Statistics.parse(HARA))
    assert TrialConfig.parse(json.loads(json.dumps(kept.tree()))) == kept


def test_an_explicit_value_is_kept_whatever_the_weights_say(published: Path) -> None:
    config = trial({"kind": "resnet3d", "depth": 14, "weights": str(published)}, "half")

    assert recorded(config) is config
    assert statistics(config).mean == (0.5, 0.5, 0.5)


def test_weights_of_a_training_here_do_not_change_the_statistics(tmp_path: Path) -> None:
    torch.save(dict(build_model(trial().model, 16).state_dict()), tmp_path / "model.pt")
    config = trial(init=str(tmp_path / "model.pt"))

    assert recorded(config) is config
    assert statistics(config) is IMAGENET


def test_the_checkpoint_of_a_test_decides(published: Path) -> None:
    assert statistics(trial({"kind": "resnet3d", "depth": 14}), published).same(Statistics.parse(HARA))


def test_identities_change_only_with_the_numbers() -> None:
    plain = trial()
    assert "normalize" not in canonical_trial(plain).identity_tree()["data"]
    assert trial_id(trial(normalize="imagenet")) == trial_id(plain)
    in_shares = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assert trial_id(trial(normalize=in_shares)) == trial_id(plain)
    r3d = {"kind": "r3d", "weights": "default"}
    assert trial_id(trial(r3d)) == trial_id(trial(r3d, "kinetics")) != trial_id(trial(r3d, "imagenet"))
    assert len({trial_id(trial(normalize=n)) for n in ("half", "kinetics", "imagenet", HARA)}) == 4


@pytest.mark.parametrize(
    ("normalize", "message"),
    [
        ({"mean": [0.5, 0.5], "std": [0.5, 0.5]}, r"data\.normalize: resnet takes 3 channels; write auto.*\(got 2\)"),
        ({"mean": [0.5], "std": [0.5]}, r"must have one number for each of 3 colours, or 2.*\(got 1 and 1\)"),
        ({"mean": [0.5] * 3, "std": [0.5, 0.5]}, r"\(got 3 and 2\)"),
        ({"mean": [0.5] * 3, "std": [0.5, 0.5, 0.0]}, r"std: must be above 0"),
        ({"mean": [0.5] * 3}, r"std"),
        ("imagnet", r"imagenet"),
    ],
)
def test_wrong_statistics_are_refused(normalize: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        trial(normalize=normalize)


def test_two_channels_are_those_of_flow() -> None:
    backbone = {"kind": "resnext3d", "depth": 14, "inputs": 2, "width": 0.25}
    with pytest.raises(ValidationError, match=r"model\.backbone\.inputs: 2 channels are those of optical flow"):
        trial(backbone)
    net = build_model(trial_of_flow(backbone).model, 3).eval()

    assert net(torch.zeros(1, 2, 4, 32, 32)).shape == (1, 3)
    with pytest.raises(ValueError, match=r"takes clips of 2 channels: optical flow \(got 3\)"):
        net(torch.zeros(1, 3, 4, 32, 32))


def trial_of_flow(backbone: dict[str, Any], frames: int = 4) -> TrialConfig:
    return TrialConfig.parse({
        "data": {"kind": "folders", "root": "/videos", "modality": "flow"},
        "model": {"frames": frames, "size": 32, "backbone": backbone},
        "train": {"epochs": 1, "batch": 2, "lr": 0.1},
    })  # fmt: skip


def test_a_flow_network_has_flow_statistics_without_weights() -> None:
    config = trial_of_flow({"kind": "p3d", "depth": 17, "inputs": 2}, frames=16)
    assert statistics(config) is FLOW
    with pytest.raises(ValidationError, match=r"p3d takes 2 channels"):
        TrialConfig.parse(config.tree() | {"data": config.data.tree() | {"normalize": "imagenet"}})
