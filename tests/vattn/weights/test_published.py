"""Published networks, laid out and computed by plain functions (plain.py), give the same logits in this package."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torchvision
import yaml
from safetensors import safe_open
from torch import Tensor

from search.commands.convert import convert
from tests.vattn.backbones.support import with_random_norms
from tests.vattn.weights import plain
from tests.vattn.weights.plain import CLASSES, Plain
from vattn.config import ModelConfig, TrialConfig
from vattn.errors import UserError
from vattn.model import load_model
from vattn.normalization import FLOW, IMAGENET, KINETICS, Statistics
from vattn.training.start import start_and_report
from vattn.weights import read_state
from vattn.weights.statistics import statistics

State = dict[str, Tensor]
MARS = Statistics(mean=(114.7748, 107.7354, 99.475), std=(1.0, 1.0, 1.0), scale=255)
HARA = Statistics(mean=(0.4345, 0.4051, 0.3775), std=(0.2768, 0.2713, 0.2737))
SLOWFAST = Statistics(mean=(0.45,) * 3, std=(0.225,) * 3)


class Case(NamedTuple):
    """A published network: its function, shape of a clip, statistics, wrapping, and what no weight shows."""

    network: plain.Network
    clip: tuple[int, ...]
    statistics: Statistics
    wrap: Callable[[State], Any] = dict
    options: dict[str, Any] = {}  # noqa: RUF012  # it is not changed


def tsn_file(state: State) -> dict[str, Any]:
    """Wrap as TSN's code and its descendants do."""
    names = {n: f"module.{n}" if n.startswith("new_fc") else f"module.base_model.{n}" for n in state}
    return {"epoch": 50, "arch": "resnet50", "best_prec1": 47.1, "state_dict": {names[n]: state[n] for n in state}}


def hara_file(state: State, prefix: str = "") -> dict[str, Any]:
    return {"epoch": 200, "arch": "resnet-50", "state_dict": {prefix + n: state[n] for n in state}, "optimizer": {}}


def mmaction_file(state: State) -> dict[str, Any]:
    return {"meta": {"epoch": 50, "mmaction_version": "0.20.0"}, "state_dict": state}


def pyslowfast_file(state: State) -> dict[str, Any]:
    return {"epoch": 195, "model_state": state, "optimizer_state": {"state": {}}, "cfg": "ALPHA: 8"}


FRAMES, MARS_CLIP = (3, 4, 32, 32), (3, 16, 32, 32)
RESNEXT = partial(plain.bottleneck3d, groups=32)
MARS_NET = partial(plain.hara, block=RESNEXT)
mars_file = partial(hara_file, prefix="module.")

CASES: dict[str, Case] = {
    "TSN": Case(plain.tsn, FRAMES, IMAGENET, tsn_file),
    "TSM": Case(plain.tsm, FRAMES, IMAGENET, tsn_file),
    "TSM, shift_place=block": Case(plain.tsm_of_blocks, FRAMES, IMAGENET, tsn_file),
    "TSM, non-local": Case(partial(plain.tsm, blocks=(3, 4, 6, 3), nonlocal_=True), FRAMES, IMAGENET, tsn_file),
    "TANet": Case(plain.tanet, FRAMES, IMAGENET, tsn_file),
    "TEA": Case(plain.tea, FRAMES, IMAGENET, tsn_file),
    "ACTION-Net": Case(plain.action, FRAMES, IMAGENET, tsn_file),
    "M2A": Case(plain.m2a, FRAMES, IMAGENET, tsn_file),
    "TDN": Case(plain.tdn, (3, 20, 64, 64), IMAGENET, tsn_file),
    "Hara's ResNet": Case(
        partial(plain.hara, block=plain.basic3d), MARS_CLIP, HARA, hara_file
    ),
    "Hara's ResNet, shortcut A": Case(
        partial(plain.hara, block=partial(plain.basic3d, shortcut="A")), MARS_CLIP, HARA, hara_file
    ),
    "Hara's ResNet with bottlenecks": Case(plain.hara, MARS_CLIP, HARA, hara_file),
    "Hara's ResNeXt": Case(MARS_NET, MARS_CLIP, HARA, hara_file),
    "Hara's ResNeXt of 8 groups": Case(
        partial(plain.hara, block=partial(plain.bottleneck3d, groups=8)), MARS_CLIP, HARA, hara_file
    ),
    "Hara's R(2+1)D": Case(
        partial(plain.hara, block=plain.basic2p1d), MARS_CLIP, HARA, hara_file
    ),
    "Hara's R(2+1)D with bottlenecks": Case(
        partial(plain.hara, block=plain.bottleneck2p1d), MARS_CLIP, HARA, hara_file
    ),
    "MARS": Case(MARS_NET, MARS_CLIP, MARS, mars_file),
    "MARS, flow": Case(
        MARS_NET, (2, 16, 32, 32), Statistics(mean=(127.5, 127.5), std=(1.0, 1.0), scale=255), mars_file
    ),
    "P3D": Case(plain.p3d, MARS_CLIP, IMAGENET, mars_file),
    "P3D, flow": Case(plain.p3d, (2, 16, 32, 32), FLOW, mars_file),
    "C3D": Case(plain.c3d, (3, 16, 112, 112), Statistics(mean=(102.0, 98.0, 90.0), std=(1.0,) * 3, scale=255)),
    "SlowFast 4x16": Case(plain.slowfast, (3, 32, 32, 32), SLOWFAST, pyslowfast_file),
    "SlowFast 8x8": Case(
        partial(plain.slowfast, alpha=4, taps=7), (3, 32, 32, 32), SLOWFAST, pyslowfast_file
    ),
    "PySlowFast's I3D": Case(
        partial(plain.inflated, mmaction=False), (3, 8, 32, 32), SLOWFAST, pyslowfast_file
    ),
    "PySlowFast's Slow": Case(
        partial(plain.inflated, mmaction=False, slow=True), (3, 4, 32, 32), SLOWFAST, pyslowfast_file
    ),
    "MMAction2's TSN": Case(partial(plain.mmaction, network="tsn"), FRAMES, IMAGENET, mmaction_file),
    "MMAction2's TSM": Case(partial(plain.mmaction, network="tsm"), FRAMES, IMAGENET, mmaction_file),
    "MMAction2's TSM of blocks": Case(partial(plain.mmaction, network="tsm block"), FRAMES, IMAGENET, mmaction_file),
    "MMAction2's TSM, non-local": Case(
        partial(plain.mmaction, network="tsm non-local"), FRAMES, IMAGENET, mmaction_file
    ),
    "MMAction2's TANet": Case(partial(plain.mmaction, network="tanet"), FRAMES, IMAGENET, mmaction_file),
    "MMAction2's C3D": Case(
        partial(plain.c3d, mmaction=True), (3, 16, 112, 112),
        Statistics(mean=(104.0, 117.0, 128.0), std=(1.0,) * 3, scale=255), mmaction_file,
    ),
    "MMAction2's I3D": Case(plain.inflated, (3, 16, 32, 32), IMAGENET, mmaction_file),
    "MMAction2's SlowFast 4x16": Case(
        partial(plain.slowfast, mmaction=True), (3, 32, 32, 32), IMAGENET, mmaction_file
    ),
    "MMAction2's SlowFast 8x8": Case(
        partial(plain.slowfast, alpha=4, taps=7, mmaction=True), (3, 32, 32, 32), IMAGENET, mmaction_file
    ),
}  # fmt: skip


def published(case: Case) -> tuple[State, Tensor, Tensor]:
    """Return the state dict of a case's plain network, clips, and its logits for them."""
    weights = Plain()
    clips = torch.randn(2, *case.clip, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = case.network(weights, clips)
    assert logits.std() > 1e-3
    return weights.state, clips, logits


def with_clips(tree: dict[str, Any], clips: Tensor) -> ModelConfig:
    """Return a network for clips of this size."""
    frames = clips.shape[2] // (5 if tree["backbone"]["kind"] == "resnet_tdn" else 1)
    return ModelConfig.parse(tree | {"frames": frames, "size": clips.shape[-1]})


def trial(model: ModelConfig, folder: Path, **train: Any) -> TrialConfig:
    """Return a training on 4 classes, which are folders."""
    root = folder / "classes"
    for label in "abcd":
        (root / label).mkdir(parents=True, exist_ok=True)
    modality = "flow" if model.backbone.input_channels == 2 else "rgb"
    return TrialConfig.parse({
        "data": {"kind": "folders", "root": str(root), "modality": modality},
        "model": model.tree(), "train": {"epochs": 1, "batch": 2, "lr": 0.1} | train,
    })  # fmt: skip


def assert_same(logits: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


def printed_model(text: str) -> dict[str, Any]:
    return yaml.safe_load(text[text.index("model:") :])["model"]


#: Networks that need the depth of 50 layers to have all of their kinds of blocks, or whose layout another case has.
SLOW = (
    "TEA", "TSM, non-local", "PySlowFast's I3D", "PySlowFast's Slow", "MMAction2's TSM, non-local", "MMAction2's I3D",
    "SlowFast 4x16", "MMAction2's SlowFast 4x16", "Hara's ResNeXt", "P3D", "Hara's R(2+1)D with bottlenecks",
)  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else pytest.mark.medium) for n in CASES]
)
def test_published_weights_give_the_published_logits_and_a_part_of_them_is_refused(
    name: str, tmp_path: Path, capsys: Any
) -> None:
    case = CASES[name]
    state, clips, expected = published(case)
    file, out = tmp_path / "published.pth", tmp_path / "ours.safetensors"
    torch.save(case.wrap(state), file)

    convert(file, out)

    text = capsys.readouterr().out
    model = with_clips(printed_model(text), clips)
    counted = [n for n in state if not n.endswith("num_batches_tracked")]
    used = [n for n in counted if not n.startswith("conv1_temp")]
    assert f"took {len(used)} of {len(counted)} tensors" in text
    net = load_model(model, CLASSES, file).eval()
    with torch.no_grad():
        assert_same(net(clips), expected)
    own, written = net.state_dict(), read_state(out)
    assert all(value.equal(own[n]) for n, value in written.items())
    assert {n for n in own if not n.endswith("num_batches_tracked")} <= written.keys()
    for weights in (file, out):
        assert statistics(trial(model, tmp_path), weights).same(case.statistics)

    part = part_of(case, state, tmp_path)
    with pytest.raises(UserError):
        convert(part, tmp_path / "broken.safetensors")
    assert not (tmp_path / "broken.safetensors").exists()
    with pytest.raises(UserError, match=r"is not of this config: it lacks"):
        load_model(model, CLASSES, part)


def part_of(case: Case, state: State, folder: Path) -> Path:
    """Save a file without a third of the names."""
    torch.save(case.wrap({n: v for i, (n, v) in enumerate(state.items()) if i % 3 != 1}), folder / "part.pth")
    return folder / "part.pth"


#: One of each way of naming.
_STARTED = ("TSM", "TANet", "Hara's ResNet", "MARS, flow", "C3D", "MMAction2's TSM of blocks")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.medium if n in _STARTED else pytest.mark.slow) for n in CASES]
)
def test_a_training_takes_all_but_the_classifier_of_other_classes(name: str, tmp_path: Path, capsys: Any) -> None:
    case = CASES[name]
    state, clips, _ = published(case)
    file = tmp_path / "published.pth"
    torch.save(case.wrap(state), file)
    convert(file, tmp_path / "ours.safetensors")
    model = with_clips(printed_model(capsys.readouterr().out), clips)

    net, taken = start_and_report(trial(model, tmp_path, init=str(file)))

    assert taken
    left = [n for n in taken.left if "conv1_temp" not in n]
    assert len(left) == 2
    assert taken.new == ("fc.weight", "fc.bias")
    own = read_state(tmp_path / "ours.safetensors")
    assert all(value.equal(own[n]) for n, value in net.state_dict().items() if n in own and not n.startswith("fc."))
    with pytest.raises(UserError, match=r"train\.init: .*part\.pth has \d+ of \d+ tensors|has no layer"):
        start_and_report(trial(model, tmp_path, init=str(part_of(case, state, tmp_path))))


@pytest.mark.medium
@pytest.mark.parametrize(
    "name", ["r3d", "mc3", "r2plus1d", *(pytest.param(f"{n}_18", marks=pytest.mark.slow) for n in ("r3d", "r2plus1d"))]
)
def test_torchvisions_video_networks_give_the_same_logits(name: str, tmp_path: Path, capsys: Any) -> None:
    video = torchvision.models.video.resnet
    kind, _, whole = name.partition("_")
    makers = {"r3d": [video.Conv3DSimple] * 4, "r2plus1d": [video.Conv2Plus1D] * 4}
    makers["mc3"] = [video.Conv3DSimple] + [video.Conv3DNoTemporal] * 3
    stem = video.R2Plus1dStem if kind == "r2plus1d" else video.BasicStem
    net = video.VideoResNet(video.BasicBlock, makers[kind], [2 if whole else 1] * 4, stem, num_classes=CLASSES)
    with_random_norms(net)
    clips = torch.randn(2, 3, 8, 32, 32)
    torch.save(net.state_dict(), tmp_path / "tv.pth")

    convert(tmp_path / "tv.pth", tmp_path / "ours.safetensors")

    model = with_clips(printed_model(capsys.readouterr().out), clips)
    with torch.no_grad():
        assert_same(load_model(model, CLASSES, tmp_path / "ours.safetensors").eval()(clips), net(clips))
    assert statistics(trial(model, tmp_path), tmp_path / "tv.pth").same(KINETICS)


def test_the_config_in_the_metadata_is_the_printed_one(tmp_path: Path, capsys: Any) -> None:
    state, _, _ = published(CASES["TSM"])
    torch.save(tsn_file(state), tmp_path / "tsm.pth")

    convert(tmp_path / "tsm.pth", tmp_path / "ours.safetensors")

    with safe_open(tmp_path / "ours.safetensors", "pt") as written:
        metadata = written.metadata()
    assert json.loads(metadata["model"]) == printed_model(capsys.readouterr().out)
    assert (metadata["family"], metadata["source"]) == ("TSM", "tsm.pth")


def test_a_converted_file_is_not_converted_again(tmp_path: Path) -> None:
    state, _, _ = published(CASES["TSN"])
    torch.save(tsn_file(state), tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "b.pt")

    with pytest.raises(
        UserError, match=r"b\.pt is not converted: its names are those of this package; use it as it is"
    ):
        convert(tmp_path / "b.pt", tmp_path / "c.pt")
    with pytest.raises(UserError, match=r"--out: must be another file"):
        convert(tmp_path / "a.pth", tmp_path / "a.pth")
    assert re.search("backbone", " ".join(torch.load(tmp_path / "b.pt", weights_only=True)["state_dict"]))
