"""A student learns from a teacher by the losses of the papers, and the teacher sees what the student sees."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from tests.vattn.golden import MARS, Recording
from tests.vattn.support import model
from tests.vattn.training.processes import fit_in_processes
from vattn.canonical import trial_id
from vattn.config import TrialConfig
from vattn.convert import convert_model
from vattn.data import open_clips, prepare
from vattn.data.augment import Region
from vattn.data.cache import CacheWriter
from vattn.data.config import SamplingConfig
from vattn.errors import UserError
from vattn.files import digest
from vattn.model import VideoModel, build_model
from vattn.training.batches.loader import train_batches
from vattn.training.batches.pixels import normalise
from vattn.training.distill import Teacher, frames_seen, kl_loss, load_teacher, mars_loss, region_seen
from vattn.training.fit import fit
from vattn.training.memory import training_memory
from vattn.training.recipe.distill import DistillConfig

CPU = torch.device("cpu")
NETWORK = {"frames": 2, "size": 24, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125}}
CLASSES = ("left", "right", "up", "down")
#: training clips of a class
CLIPS = 5


# The losses, against the recordings of MARS's code


@pytest.fixture
def recorded() -> Callable[[str], Recording]:
    return lambda name: Recording(MARS / f"{name}.npz")


def test_the_loss_of_features_is_that_of_mars(recorded: Callable[[str], Recording]) -> None:
    case = recorded("mars_loss_a50__train")
    logits, features = (case.tensor(name).requires_grad_() for name in ("logits", "features"))

    own = F.cross_entropy(logits, case.tensor("labels"))
    term = case.meta["config"]["alpha"] * mars_loss(features, case.tensor("teacher_features"))
    (own + term).backward()

    for name, value in {"loss_ce": own, "loss_mse": term, "output": own + term,
                        "grad_logits": logits.grad, "grad_features": features.grad}.items():  # fmt: skip
        torch.testing.assert_close(value, case.tensor(name), **case.meta["tolerance"][name])


def test_a_student_and_a_flow_teacher_are_those_of_mars(recorded: Callable[[str], Recording]) -> None:
    case = recorded("mars_distill_net_16f__train")
    options, tolerance = case.meta["config"], case.meta["tolerance"]
    network = model(
        backbone={"kind": "resnext3d", "depth": 14, "cardinality": options["cardinality"]}, frames=options["frames"],
        size=options["size"],
    )  # fmt: skip
    student, teacher = build_model(network, options["classes"]).train(), build_model(network, options["classes"]).eval()
    student.dropout = nn.Dropout(0)
    student.load_state_dict(convert_model(case.params(), network), strict=False)
    case.meta |= {"param_names": case.meta["teacher_param_names"], "param_seed": case.meta["teacher_param_seed"]}
    flow = dict(case.params())
    # Two channels of flow are three of which the last has no weight.
    flow["conv1.weight"] = F.pad(flow["conv1.weight"], (0, 0) * 3 + (0, 1))
    teacher.load_state_dict(convert_model(flow, network), strict=False)
    images = torch.from_numpy(np.random.default_rng(1511).integers(-4, 5, (2, 5, 16, 64, 64)) / 2).float()

    with torch.no_grad():
        taught = teacher(F.pad(images[:, 3:], (0, 0) * 3 + (0, 1)), with_features=True)
    scores, features = student(images[:, :3], with_features=True)
    own, term = student.loss(scores, case.tensor("labels")), options["alpha"] * mars_loss(features, taught[1])
    (own + term).backward()

    results = {"logits": scores, "features": features, "teacher_logits": taught[0], "teacher_features": taught[1],
               "loss_ce": own, "loss_mse": term}  # fmt: skip
    for name, value in results.items():
        torch.testing.assert_close(value, case.tensor(name), **tolerance[name], msg=lambda text, n=name: f"{n}: {text}")
    own_name = {"fc.weight": "fc.weight", "conv1.weight": "backbone.conv1.weight",
                "layer4": "backbone.layer4.0.conv2.weight"}  # fmt: skip
    for name, parameter in own_name.items():
        gradient = student.get_parameter(parameter).grad.double()  # pyright: ignore[reportOptionalMemberAccess]
        statistics = torch.stack([gradient.mean(), gradient.std(), gradient.abs().max()])
        torch.testing.assert_close(
            statistics, case.tensor(f"tap/grad_{name}").double(), **tolerance["tap"],
            msg=lambda text, n=name: f"gradient of {n}: {text}",
        )  # fmt: skip


def test_clips_of_both_streams_are_cropped_and_mirrored_as_in_mars(
    recorded: Callable[[str], Recording], tmp_path: Path
) -> None:
    case = recorded("mars_preprocess_a__train")
    clip = {"rgb": case.arrays["rgb"], "flow": F.pad(case.tensor("flow_uint8"), (0, 1), value=128).numpy()}
    mean = {"rgb": (114.7748, 107.7354, 99.4750), "flow": (127.5, 127.5)}
    seen: dict[str, dict[bool, torch.Tensor]] = {"rgb": {}, "flow": {}}
    for modality, pixels in clip.items():
        (tmp_path / modality).mkdir()  # also a class, whose name is that of no side
        writer = CacheWriter(tmp_path / modality)
        for number in range(8):  # the flip is drawn for each clip
            writer.add(number, f"{number}.mp4", 0, "train", pixels)
        writer.finish([])
        tree = tree_of(tmp_path, augment={"flip": True, "crop": "center"}, network={"frames": 4, "size": 16})
        config = TrialConfig.parse(tree | {"data": tree["data"] | {"modality": modality}})
        clips = open_clips(tmp_path / modality, "train")
        data = config.data.model_copy(update={"sampling": SamplingConfig(kind="window")})
        batches = train_batches(clips, data, config.model, config.train, 1)
        for step, (images, _) in enumerate(batches):
            for image, view in zip(images, batches.plan(step).views, strict=True):
                levels = torch.tensor(mean[modality]).view(-1, 1, 1, 1)
                seen[modality][view.mirrored] = image[: len(levels)].float() - levels

    for name, mirrored in (("output_test", False), ("output_mirrored", True)):
        together = torch.cat([seen[modality][mirrored] for modality in ("rgb", "flow")])
        torch.testing.assert_close(together, case.tensor(name), **case.meta["tolerance"][name])


def test_the_divergence_of_classes_by_hand() -> None:
    # Temperature 2 halves scores: the student's classes are (1/2, 1/2), the teacher's (3/4, 1/4).
    scores, taught = torch.zeros(1, 2), torch.tensor([[2 * np.log(3.0), 0.0]])

    loss = kl_loss(scores, taught, 2.0)

    expected = 4 * (0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5))
    torch.testing.assert_close(loss, torch.tensor(expected), check_dtype=False)


@given(temperature=st.floats(0.5, 20), seed=st.integers(0, 100))
def test_a_student_with_the_teachers_scores_has_nothing_to_learn(temperature: float, seed: int) -> None:
    scores = torch.randn(3, 5, generator=torch.Generator().manual_seed(seed)).requires_grad_()

    loss = kl_loss(scores, scores.detach() + 1.5, temperature)
    loss.backward()

    assert float(loss.detach()) == pytest.approx(0, abs=1e-4)
    assert float(scores.grad.abs().max()) < 1e-5  # pyright: ignore[reportOptionalMemberAccess]


# Data: folders of RGB frames with their flow beside them; the frames are noise, the flow tells the class


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("set")
    directions = {"left": (98, 128), "right": (158, 128), "up": (128, 98), "down": (128, 158)}
    for split, count in (("train", CLIPS), ("val", 2)):
        for name, levels in directions.items():
            for number in range(count):
                folder = root / split / name / f"{number}"
                folder.mkdir(parents=True)
                rng = np.random.default_rng([len(split), CLASSES.index(name), number])
                for t in range(1, 7):
                    noise = rng.integers(0, 256, (32, 40, 3), np.uint8)
                    Image.fromarray(noise).save(folder / f"img_{t:05}.png")
                    if t < 6:  # the last frame has no flow
                        for axis, level in zip("xy", levels, strict=True):
                            grey = np.clip(rng.normal(level, 3, (32, 40)), 0, 255).astype(np.uint8)
                            Image.fromarray(grey).save(folder / f"flow_{axis}_{t:05}.png")
    return root


def data(root: Path, modality: str = "rgb", **options: Any) -> dict[str, Any]:
    return {"kind": "folders", "root": str(root), "store": {"size": 32}, "modality": modality,
            "cache": str(root.parent / "cache")} | options  # fmt: skip


@pytest.fixture(scope="module")
def flow_weights(root: Path) -> Path:
    """Weights of a network of flow, whose features are far from a fresh student's."""
    torch.manual_seed(5)
    net = build_model(TrialConfig.parse(tree_of(root)).model, len(CLASSES))
    file = root.parent / "teacher.pt"
    torch.save(net.state_dict(), file)
    return file


def tree_of(root: Path, weights: Path | None = None, **options: Any) -> dict[str, Any]:
    """Return a student's config; with weights, it learns from the flow network that has them."""
    teacher = {"data": data(root, options.pop("taught", "flow")), "model": options.pop("teacher", NETWORK)}
    distill: dict[str, Any] = {"teacher": teacher, "checkpoint": str(weights)} | options.pop("distill", {})
    if weights:
        distill |= {"digest": digest(weights)}
    changes = {"augment": options.pop("augment", {})} if "augment" in options else {}
    return {
        "data": data(root, **changes),
        "model": NETWORK | {"head": {"dropout": 0.3}} | options.pop("network", {}),
        "train": {"epochs": 2, "batch": 8, "lr": 0.05, "distill": distill if weights else "none"} | options,
    }


def student(root: Path, weights: Path | None = None, **options: Any) -> TrialConfig:
    return TrialConfig.parse(tree_of(root, weights, **options))


@pytest.fixture(scope="module")
def cache(root: Path) -> Path:
    return prepare(student(root).data, root.parent)


def teacher_of(config: TrialConfig, cache: Path) -> Teacher:
    return Teacher(config, open_clips(cache, "train"), cache, CPU)


# What the teacher sees


@pytest.mark.parametrize(
    ("frames", "count", "own", "other", "expected"),
    [
        ([0, 3, 5], 3, 6, 5, [0, 3, 4]),  # the flow of the last frame is that of the one before
        ([0, 2, 4, 6], 2, 8, 8, [1, 5]),  # half as many: between two frames each
        ([0, 2, 4], 6, 8, 8, [0, 0, 1, 2, 3, 4]),  # at -0.25, 0.25, 0.75 ... of the student's positions
        ([4, 5, 0, 1], 2, 6, 6, [4, 0]),  # a short video goes on with its first frame: 4.5, 6.5
        ([0, 1, 2, 3], 4, 4, 8, [1, 3, 5, 7]),  # stored twice as long: the middles of the same parts
    ],
)
def test_frames_of_the_teacher(frames: list[int], count: int, own: int, other: int, expected: list[int]) -> None:
    assert frames_seen(np.array(frames), count, own, other).tolist() == expected


@given(
    own=st.integers(1, 40), other=st.integers(1, 40), count=st.integers(1, 20),
    chosen=st.lists(st.integers(0, 39), min_size=1, max_size=20),
)  # fmt: skip
def test_frames_of_the_teacher_exist(own: int, other: int, count: int, chosen: list[int]) -> None:
    frames = frames_seen(np.array(chosen) % own, count, own, other)

    assert len(frames) == count
    assert ((frames >= 0) & (frames < other)).all()


def test_the_region_of_the_teacher_is_the_same_part_of_the_picture() -> None:
    assert region_seen(Region(2, 4, 8, 16), (32, 40), (32, 40)) == Region(2, 4, 8, 16)
    assert region_seen(Region(2, 4, 8, 16), (32, 40), (64, 80)) == Region(4, 8, 16, 32)
    assert region_seen(Region(0, 0, 1, 1), (32, 40), (8, 10)) == Region(0, 0, 1, 1)


def test_a_teacher_of_the_same_frames_sees_the_students_images(root: Path, cache: Path, flow_weights: Path) -> None:
    config = student(root, flow_weights, taught="rgb")
    batches = train_batches(open_clips(cache, "train"), config.data, config.model, config.train, 1)

    assert teacher_of(config, cache).batches(batches) is None


def test_a_flow_teacher_sees_the_flow_of_the_students_frames_mirrored_as_they_are(
    root: Path, cache: Path, flow_weights: Path
) -> None:
    config = student(root, flow_weights, augment={"flip": True, "crop": "random"})
    clips = open_clips(cache, "train")
    batches = train_batches(clips, config.data, config.model, config.train, 1)

    other = teacher_of(config, cache).batches(batches)

    assert other is not None
    mirrored = 0
    for step, (flow, _) in enumerate(other):
        for n, view in enumerate(batches.plan(step).views):
            folder = root / clips.paths[view.clip]
            top, left, height, width = view.region
            for t, frame in enumerate(view.frames.tolist()):
                number = min(frame, 4) + 1  # six frames have five of flow
                x, y = (
                    np.asarray(Image.open(folder / f"flow_{axis}_{number:05}.png"))[
                        top : top + height, left : left + width
                    ]
                    for axis in "xy"
                )
                if view.mirrored:
                    x, y = 255 - x[:, ::-1], y[:, ::-1]
                np.testing.assert_array_equal(flow[n, :2, t].numpy(), np.stack([x, y]))
            mirrored += view.mirrored
    assert 0 < mirrored < len(clips)


def test_a_teacher_of_another_size_sees_the_same_part_scaled(root: Path, cache: Path, flow_weights: Path) -> None:
    larger = NETWORK | {"size": 32}
    config = student(root, flow_weights, taught="rgb", teacher=larger)
    clips = open_clips(cache, "train")
    batches = train_batches(clips, config.data, config.model, config.train, 1)

    other = teacher_of(config, cache).batches(batches)

    assert other is not None
    from torchvision.transforms.v2 import functional

    images, _ = batches.make(batches.plan(0))
    seen, _ = other.make(other.plan(0))
    expected = functional.resize(images.transpose(1, 2), [32, 32], antialias=True).transpose(1, 2)
    torch.testing.assert_close(seen.int(), expected.int(), rtol=0, atol=1)


def test_clips_are_mixed_for_the_teacher_as_for_the_student(root: Path, cache: Path, flow_weights: Path) -> None:
    plain = student(root, flow_weights)
    config = student(root, flow_weights, augment={"mixup": 1.0})
    clips = open_clips(cache, "train")
    shares, flows = [], []
    for each in (plain, config):
        batches = train_batches(clips, each.data, each.model, each.train, 1)
        other = teacher_of(each, cache).batches(batches)
        assert other is not None
        shares.append(batches.make(batches.plan(0))[1])
        flows.append(other.make(other.plan(0))[0].float())
    labels, mixed = shares
    differs = labels != labels.roll(1, 0)
    share = mixed[torch.arange(len(labels)), labels][differs][0]

    expected = share * flows[0] + (1 - share) * flows[0].roll(1, 0)

    torch.testing.assert_close(flows[1], expected, rtol=0, atol=0.51)


# Training


@pytest.mark.parametrize("loss", ["mars", "kl"])
def test_steps_are_those_of_plain_torch(root: Path, cache: Path, flow_weights: Path, loss: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"schedule": "constant", "weight_decay": 0.0, "network": {"head": {"dropout": 0}}}
    config = student(root, flow_weights, distill={"loss": loss, "weight": 3.0, "temperature": 2.0}, **options)
    list(fit(config, cache, tmp_path))
    torch.manual_seed(config.train.seed)
    net = build_model(config.model, 4)
    teacher = build_model(config.model, 4)
    teacher.load_state_dict(torch.load(flow_weights, weights_only=True))
    teacher.eval()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for epoch in (1, 2):
        net.train()
        batches = train_batches(open_clips(cache, "train"), config.data, config.model, config.train, epoch)
        other = teacher_of(config, cache).batches(batches)
        assert other is not None
        for (images, labels), (flow, _) in zip(batches, other, strict=True):
            rows = net.features(normalise(images, CPU))
            scores = net.fc(rows.mean(1))
            with torch.no_grad():
                taught = teacher.features(normalise(flow, CPU)).mean(1)
                classes = (teacher.fc(taught) / 2).softmax(1)
            if loss == "mars":
                term = ((rows.mean(1) - taught) ** 2).mean()
            else:
                term = 4 * (classes * (classes.log() - (scores / 2).log_softmax(1))).sum(1).mean()
            optimizer.zero_grad()
            (F.cross_entropy(scores, labels) + 3 * term).backward()
            optimizer.step()

    trained = torch.load(tmp_path / "model.pt", weights_only=True)
    names = [name for name, _ in net.named_parameters()]
    torch.testing.assert_close(
        {name: trained[name] for name in names}, {name: net.state_dict()[name] for name in names}, rtol=0, atol=2e-5
    )


def test_a_teacher_of_no_weight_changes_nothing(root: Path, cache: Path, flow_weights: Path, tmp_path: Path) -> None:
    list(fit(student(root), cache, tmp_path / "alone"))
    list(fit(student(root, flow_weights, distill={"weight": 0.0}), cache, tmp_path / "taught"))

    states = [torch.load(tmp_path / run / "model.pt", weights_only=True) for run in ("alone", "taught")]
    torch.testing.assert_close(*states, rtol=0, atol=0)


def test_features_come_nearer_to_the_teachers(root: Path, cache: Path, flow_weights: Path, tmp_path: Path) -> None:
    def distance(config: TrialConfig, folder: Path) -> float:
        list(fit(config, cache, folder))
        teacher = teacher_of(student(root, flow_weights), cache)
        net: VideoModel = build_model(config.model, 4)
        net.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
        net.eval()
        batches = train_batches(open_clips(cache, "train"), config.data, config.model, config.train, 1)
        other = teacher.batches(batches)
        assert other is not None
        with torch.no_grad():
            pairs = [(net(normalise(images, CPU), with_features=True)[1], teacher(flow)[1])
                     for (images, _), (flow, _) in zip(batches, other, strict=True)]  # fmt: skip
        return float(np.mean([float(F.mse_loss(*pair)) for pair in pairs]))

    alone = distance(student(root, epochs=6), tmp_path / "alone")
    taught = distance(student(root, flow_weights, epochs=6, distill={"weight": 1.0}), tmp_path / "taught")

    assert taught < 0.7 * alone


OPTIONS = {
    "augment": {"flip": True, "crop": "random", "mixup": 0.5}, "accumulate": 2, "amp": "bf16",
    "checkpoint_minutes": 1e-9, "ema": 0.9, "label_smoothing": 0.1,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
def test_a_killed_distillation_goes_on_to_the_same_weights(
    root: Path, cache: Path, flow_weights: Path, tmp_path: Path, world: int
) -> None:
    config = student(root, flow_weights, batch=4, **OPTIONS)
    fit_in_processes(config, cache, tmp_path / "whole", world, keep_best=True)
    # Several workers keep no checkpoint within an epoch as short as this one: they go on after the first.
    for last in (2, 5, 1):
        fit_in_processes(config, cache, tmp_path / "cut", world, last, keep_best=True)

    _, steps = fit_in_processes(config, cache, tmp_path / "cut", world, keep_best=True)

    assert int(steps) < 2 * CLIPS  # 20 clips in batches of 4, twice
    for name in ("model.pt", "best.pt"):
        states = [torch.load(tmp_path / run / name, weights_only=True) for run in ("whole", "cut")]
        torch.testing.assert_close(*states, rtol=0, atol=0)


# Identity, memory and errors


def test_the_identity_is_that_of_what_the_teacher_is_not_of_where_it_lies(
    root: Path, flow_weights: Path, tmp_path: Path
) -> None:
    config = student(root, flow_weights)
    copy, other = tmp_path / "copy.pt", tmp_path / "other.pt"
    copy.write_bytes(flow_weights.read_bytes())
    torch.save({"fc.weight": torch.zeros(4, 64)}, other)

    assert trial_id(student(root, copy)) == trial_id(config)
    assert trial_id(student(root, flow_weights, distill={"weight": 50.0, "temperature": 9.0})) == trial_id(config)
    different = [
        student(root), student(root, other), student(root, flow_weights, distill={"weight": 49.0}),
        student(root, flow_weights, distill={"loss": "kl"}), student(root, flow_weights, taught="rgb"),
        student(root, flow_weights, teacher=NETWORK | {"frames": 4}),
    ]  # fmt: skip
    assert len({trial_id(each) for each in (config, *different)}) == 1 + len(different)
    without = tree_of(root)
    del without["train"]["distill"]
    assert trial_id(TrialConfig.parse(without)) == trial_id(student(root))


def test_the_predicted_memory_has_the_weights_of_the_teacher_and_its_images(root: Path, flow_weights: Path) -> None:
    alone, taught = (training_memory(config, 4) for config in (student(root), student(root, flow_weights)))
    state = torch.load(flow_weights, weights_only=True)

    assert taught.weights - alone.weights == sum(value.nbytes for value in state.values())
    assert taught.inputs == 2 * alone.inputs
    assert (taught.gradients, taught.optimizer) == (alone.gradients, alone.optimizer)
    same = training_memory(student(root, flow_weights, taught="rgb"), 4)
    assert (same.inputs, same.weights) == (alone.inputs, taught.weights)
    # A forward pass without gradients takes less than a step, unless the teacher is much larger.
    large = NETWORK | {"frames": 32, "size": 64}
    assert training_memory(student(root, flow_weights, taught="rgb", teacher=large), 4).activations > alone.activations


def test_a_teacher_with_other_features_or_classes_is_refused(root: Path, flow_weights: Path) -> None:
    wide = NETWORK | {"backbone": {"kind": "resnet", "depth": 10, "width": 0.25}}
    with pytest.raises(ValueError, match=r"mars compares features, of which the teacher has 128 and this network 64"):
        student(root, flow_weights, teacher=wide)
    TrialConfig.parse(tree_of(root, flow_weights, teacher=wide, distill={"loss": "kl"}))
    torch.manual_seed(0)
    seven = root.parent / "seven.pt"
    torch.save(build_model(student(root).model, 7).state_dict(), seven)

    assert load_teacher(student(root, seven)).fc.out_features == 7  # mars does not use the teacher's classes
    with pytest.raises(UserError, match="the teacher has 7 and these data 4; take a teacher of these classes, or mars"):
        load_teacher(student(root, seven, distill={"loss": "kl"}))


def test_another_checkpoint_than_that_of_the_config_is_refused(root: Path, flow_weights: Path, tmp_path: Path) -> None:
    file = tmp_path / "teacher.pt"
    file.write_bytes(flow_weights.read_bytes())
    config = student(root, file)
    state = torch.load(file, weights_only=True)
    torch.save(state | {"fc.bias": state["fc.bias"] + 1}, file)

    with pytest.raises(UserError, match=r"train\.distill\.checkpoint: .*teacher\.pt has changed since"):
        load_teacher(config)
    file.unlink()
    with pytest.raises(UserError, match=r"there is no file .*; put the weights of the teacher there"):
        load_teacher(config)


def test_a_clip_without_flow_is_refused(root: Path, cache: Path, flow_weights: Path, tmp_path: Path) -> None:
    config = student(root, flow_weights)
    for name in CLASSES:  # a set of flow with fewer clips
        for split, numbers in (("train", range(CLIPS - 1)), ("val", range(1))):
            for number in numbers:
                folder = tmp_path / "fewer" / split / name / f"{number}"
                folder.parent.mkdir(parents=True, exist_ok=True)
                folder.symlink_to(root / split / name / f"{number}")
    distill = config.train.distill
    assert isinstance(distill, DistillConfig)
    fewer = tree_of(root, flow_weights)
    fewer["train"]["distill"]["teacher"]["data"] |= {"root": str(tmp_path / "fewer"), "cache": "auto"}

    with pytest.raises(UserError, match=r"4 of 20 are missing, such as train/down/4; compute their flow"):
        teacher_of(TrialConfig.parse(fewer), cache)
