"""What feeds a training: the same batches with any number of threads, from the cache or from the device's memory."""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.vattn.support import model
from tests.vattn.training.plain import plain_epoch
from vattn.config import DataConfig, ModelConfig, TrainConfig, TrialConfig
from vattn.data import open_clips
from vattn.data.cache import CacheWriter, Clips, Codec
from vattn.data.layouts.folders import FoldersDataConfig
from vattn.data.layouts.motion import MotionDataConfig
from vattn.errors import UserError
from vattn.model import build_model
from vattn.training.batches import feed as feed_module
from vattn.training.batches.feed import feed
from vattn.training.batches.loader import Batches, eval_batches, train_batches
from vattn.training.batches.sources import ResidentClips, is_resident, resident
from vattn.training.evaluation import evaluate
from vattn.training.fit import fit

CPU = torch.device("cpu")
Pairs = list[tuple[torch.Tensor, torch.Tensor]]

AUGMENTS: list[dict[str, Any]] = [
    {"flip": True},
    {"color": 0.4},
    {"randaugment": 2},
    {"randaugment": 3, "magnitude": 17, "color": 0.6, "flip": True, "crop": "multiscale"},
    {"mixup": 0.4},
    {"cutmix": 1.0, "crop": "resized"},
    {"mixup": 0.4, "cutmix": 1.0, "flip": True, "color": 0.4, "randaugment": 2},
]


@pytest.fixture(scope="module", params=["raw", "jpeg"])
def cache(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve training clips and six validation clips of several lengths and shapes."""
    codec: Codec = request.param
    folder = tmp_path_factory.mktemp(codec)
    writer = CacheWriter(folder, codec=codec)
    for number in range(18):
        rng = np.random.default_rng(number)
        blocks = rng.integers(0, 256, (9 + number, 10, 14 + number % 3, 3), np.uint8).repeat(4, 1).repeat(4, 2)
        video = blocks // 2 + rng.integers(0, 128, blocks.shape, np.uint8)
        writer.add(number, f"{number}.mp4", number % 16, "train" if number < 12 else "val", video)
    writer.finish([])
    return folder


@pytest.fixture
def clips(cache: Path) -> Clips:
    return open_clips(cache, "train")


def data(modality: str = "rgb", tmp_path: Path | None = None, **augment: Any) -> DataConfig:
    if modality == "flow":
        assert tmp_path is not None
        for number in range(16):
            (tmp_path / f"class{number}").mkdir(exist_ok=True)
        return FoldersDataConfig.parse({"root": str(tmp_path), "modality": "flow", "augment": augment})
    return MotionDataConfig.parse({"modality": modality, "augment": augment})


def train(**changes: int) -> TrainConfig:
    return TrainConfig.parse({"epochs": 2, "batch": 4, "lr": 0.1, "seed": 3} | changes)


def tdn() -> ModelConfig:
    return model(frames=2, backbone={"kind": "resnet_tdn", "depth": 10, "width": 0.25})


@contextlib.contextmanager
def torch_set_to(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fed(batches: Batches, threads: int = 2) -> Pairs:
    with torch_set_to(threads):
        return list(feed(batches, CPU))


def assert_equal(own: Pairs, expected: Pairs) -> None:
    assert len(own) == len(expected) > 0
    for (images, labels), (expected_images, expected_labels) in zip(own, expected, strict=True):
        torch.testing.assert_close(images, expected_images, rtol=0, atol=0)
        torch.testing.assert_close(labels, expected_labels, rtol=0, atol=0)


@pytest.mark.parametrize("augment", AUGMENTS)
def test_any_number_of_threads_makes_the_batches_of_the_plainest_writing(clips: Clips, augment: dict[str, Any]) -> None:
    expected = list(plain_epoch(clips, data(**augment), model(), train(), 1))
    state = torch.get_rng_state()

    for threads in (1, 2, 3):
        assert_equal(fed(train_batches(clips, data(**augment), model(), train(), 1), threads), expected)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("modality", ["diff", "flow"])
@pytest.mark.parametrize("network", [model(), tdn()])
@pytest.mark.parametrize("augment", [{"flip": True}, {"flip": True, "crop": "resized", "mixup": 0.4}])
def test_other_modalities_are_those_of_the_plainest_writing(
    clips: Clips, tmp_path: Path, modality: str, network: ModelConfig, augment: dict[str, Any]
) -> None:
    config = data(modality, tmp_path, **augment)

    assert_equal(
        fed(train_batches(clips, config, network, train(), 0)), list(plain_epoch(clips, config, network, train(), 0))
    )


def test_random_numbers_of_the_training_do_not_change_the_batches_nor_they_its_numbers(clips: Clips) -> None:
    config = data(color=0.4, randaugment=2)
    expected = list(plain_epoch(clips, config, model(), train(), 0))
    torch.manual_seed(1)
    numbers = [torch.rand(1000) for _ in range(3)]

    torch.manual_seed(1)
    with torch_set_to(2):
        own = [(*batch, torch.rand(1000)) for batch in feed(train_batches(clips, config, model(), train(), 0), CPU)]

    assert_equal([batch[:2] for batch in own], expected)
    assert [torch.equal(batch[2], number) for batch, number in zip(own, numbers, strict=True)] == [True] * 3


def test_an_altered_clip_is_an_error_in_the_place_of_its_batch(tmp_path: Path) -> None:
    writer = CacheWriter(tmp_path)
    for number in range(12):
        writer.add(number, f"{number}.mp4", 0, "val", np.full((8, 32, 32, 3), number, np.uint8))
    writer.finish([])
    (shard,) = tmp_path.glob("shard-*")
    content = bytearray(shard.read_bytes())
    content[content.index(bytes([7] * 1000)) + 500] ^= 1
    shard.write_bytes(content)
    batches = feed(eval_batches(open_clips(tmp_path, "val"), data(), model(frames=8), 2), CPU)

    # The batches are of clips 0 and 1, 2 and 3, 4 and 5, and then of 6 and 7.
    with torch_set_to(3):
        assert [int(images[0, 0, 0, 0, 0]) for images, _ in itertools.islice(batches, 3)] == [0, 2, 4]
        with pytest.raises(UserError, match=r"was altered or cut off after it was written \(7\.mp4"):
            next(batches)


# Resident clips


@pytest.mark.parametrize("modality", ["rgb", "diff", "flow"])
@pytest.mark.parametrize("network", [model(), tdn()])
@pytest.mark.parametrize("crop", ["random", "multiscale", "resized", "stretched"])
def test_batches_cut_out_of_resident_frames_are_those_from_the_cache(
    clips: Clips, tmp_path: Path, modality: str, network: ModelConfig, crop: str
) -> None:
    colours = {"color": 0.4, "randaugment": 1} if modality == "rgb" else {}
    config = data(modality, tmp_path, crop=crop, flip=True, mixup=0.4, **colours)
    kept = ResidentClips(clips, CPU)

    own, expected = (fed(train_batches(source, config, network, train(), 1)) for source in (kept, clips))
    assert_equal(own, expected)
    config = config.model_copy(update={"views": type(config.views)(clips=2, crops=3)})
    own, expected = (fed(eval_batches(source, config, network, 12)) for source in (kept, clips))
    assert_equal(own, expected)


def trial(**changes: Any) -> TrialConfig:
    return TrialConfig.parse({
        "data": {"kind": "motion", "augment": {"flip": True, "color": 0.2}} | changes,
        "model": {"frames": 4, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125}},
        "train": {"epochs": 2, "batch": 4, "lr": 0.05},
    })  # fmt: skip


def test_a_training_with_resident_clips_is_the_same_training(cache: Path, tmp_path: Path) -> None:
    metrics = [
        [epoch.metrics for epoch in fit(trial(resident=wanted), cache, tmp_path / str(wanted))]
        for wanted in (False, True)
    ]

    states = [torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("False", "True")]
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=0)
    assert metrics[0] == metrics[1]


def test_frames_are_resident_on_a_cpu_only_if_it_is_wanted(clips: Clips, cache: Path) -> None:
    assert resident(clips, trial(), CPU) is clips
    assert resident(clips, trial(resident=False), CPU) is clips
    kept = resident(clips, trial(resident=True), CPU)

    assert isinstance(kept, ResidentClips)
    assert [torch.equal(frames, torch.from_numpy(np.array(clips.clip(i)))) for i, frames in enumerate(kept.frames)] == [
        True
    ] * 12
    net = build_model(trial().model, 16)
    scores = [evaluate(net, source, trial(), CPU).metrics for source in (kept, clips)]
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    ("epochs", "free", "share", "kept"),
    # 12 clips of 9 to 20 frames, 174 in all, of 40 x 56, 60 or 64 pixels: 1,256,640 bytes. An epoch reads 4 frames of
    # each, so 4 epochs read more than are stored.
    [(4, 5_100_000, 1.0, True), (3, 5_100_000, 1.0, False), (4, 4_900_000, 1.0, False), (4, 80_000_000, 0.05, False)],
)
def test_on_a_gpu_frames_are_resident_if_they_are_few_and_read_often(
    clips: Clips, monkeypatch: pytest.MonkeyPatch, epochs: int, free: int, share: float, kept: bool
) -> None:
    assert int(clips.shapes.prod(1).sum()) * 3 == 1_256_640
    config = trial()
    config = config.model_copy(update={"train": config.train.model_copy(update={"epochs": epochs})})
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80_000_000))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: share)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)

    assert is_resident(clips, config, torch.device("cuda", 0)) is kept


# The path of a GPU, on fake streams: what it calls, and in which order


class FakeStream:
    """A stream that writes down what it waits for."""

    def __init__(self, name: str, log: list[tuple[str, ...]]) -> None:
        self.name, self.log = name, log

    def wait_stream(self, stream: "FakeStream") -> None:
        self.log.append((self.name, "waits for", stream.name))

    def wait_event(self, event: "FakeEvent") -> None:
        assert event.recorded, "the event is waited for before it is recorded"
        self.log.append((self.name, "waits for an event"))


class FakeEvent:
    recorded = False

    def record(self, stream: FakeStream) -> None:
        assert stream.name == "side"
        self.recorded = True


@pytest.mark.parametrize("kept", [False, True])
def test_batches_for_a_gpu_are_made_on_a_side_stream_that_the_main_one_waits_for(
    clips: Clips, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    log: list[tuple[str, ...]] = []
    side, main = FakeStream("side", log), FakeStream("main", log)
    monkeypatch.setattr(feed_module, "_side_stream", lambda device: side)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda _, stream: log.append((stream.name, "uses")))
    source = ResidentClips(clips, CPU) if kept else clips
    batches = train_batches(source, data(color=0.2, mixup=0.4), model(), train(), 0)

    with torch_set_to(2):
        own = list(feed_module._feed_gpu(batches, CPU, 2))

    assert_equal(own, list(batches))
    assert log[0] == ("side", "waits for", "main")
    start = 2 if kept else 1
    assert log[1:start] == [("side", "uses")] * kept
    assert log[start:] == [("main", "waits for an event"), ("main", "uses"), ("main", "uses")] * 3


def test_a_pass_for_a_gpu_that_is_left_early_ends_its_threads(clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    log: list[tuple[str, ...]] = []
    monkeypatch.setattr(feed_module, "_side_stream", lambda device: FakeStream("side", log))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: FakeStream("main", log))
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda _, stream: None)

    batches = feed_module._feed_gpu(train_batches(clips, data(), model(), train(batch=2), 0), CPU, 2)
    next(batches)
    batches.close()  # pyright: ignore[reportAttributeAccessIssue]

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]
