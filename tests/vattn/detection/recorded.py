"""Recordings of detectors' public code (tests/golden/detection): each kind of case, repeated by this library.

Shapes and settings come from the recording, so that other recordings of the same kinds can be tried.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.vattn.golden import Options, Recording
from vattn.config import ModelConfig
from vattn.convert import convert_model
from vattn.detection.boxes import Rule, anchors, clip, decode, encode, nms, overlaps
from vattn.detection.config import CELLS, STRIDES
from vattn.detection.detections import Cleaning, buffer_segments, suppressed, video_segments, window_segments
from vattn.detection.evaluation import Detections, Instances, evaluate
from vattn.detection.losses import anchor_losses, overlap_loss, smooth_l1
from vattn.detection.pooling import pool_regions
from vattn.detection.proposals import Proposing, propose, with_row
from vattn.detection.published import rc3d_rules
from vattn.detection.rc3d import RC3D, RegionSettings
from vattn.detection.targets import AnchorRule, Draws, RegionRule, anchor_targets, region_targets
from vattn.detection.windows import (
    Buffer,
    BufferRule,
    buffers,
    seconds_of,
    training_buffers,
    window_counts,
    window_prior,
    windows,
)
from vattn.model import build_model
from vattn.weights.state import rename, rename_one

#: The recordings (.npz) that the test reads.
FOLDER = Path(os.environ.get("VATTN_GOLDEN_DETECTION", Path(__file__).parents[2] / "golden" / "detection"))

#: What a case computes: name of the recorded array -> value.
Values = Mapping[str, Any]


class RecordedDraws(Draws):
    """The random numbers that the public code consumed, in its order."""

    def __init__(self, recording: Recording) -> None:
        self._arrays = recording.arrays
        self._permutations, self._uniforms = 0, 0

    def permutation(self, n: int) -> Tensor:
        drawn = torch.from_numpy(self._arrays[f"permutation_{self._permutations}"])
        self._permutations += 1
        assert len(drawn) == n
        return drawn

    def uniform(self, n: int) -> Tensor:
        drawn = torch.from_numpy(self._arrays[f"uniform_{self._uniforms}"])
        self._uniforms += 1
        assert len(drawn) == n
        return drawn

    @property
    def used(self) -> bool:
        """Whether every recorded number was drawn."""
        numbers = [name.split("_")[0] for name in self._arrays if name.startswith(("permutation_", "uniform_"))]
        return len(numbers) == self._permutations + self._uniforms


def by_anchor(maps: Tensor, count: int) -> Tensor:
    """Return (N, K * A, L, 1, 1) maps as (N, L * A, K): channel k * A + a where ``count`` is K."""
    return maps.flatten(2).unflatten(1, (count, -1)).permute(0, 3, 2, 1).flatten(1, 2)


def pairs(maps: Tensor) -> Tensor:
    """Return (N, 2A, L, 1, 1) maps, channel 2a + coordinate, as (N, L * A, 2)."""
    return maps.flatten(2).unflatten(1, (-1, 2)).permute(0, 3, 1, 2).flatten(1, 2)


def to_pairs(rows: Tensor, scales: int) -> Tensor:
    """Return (N, L * A, 2) as (N, 2A, L, 1, 1)."""
    return rows.unflatten(1, (-1, scales)).permute(0, 2, 3, 1).flatten(1, 2)[..., None, None]


def to_labels(rows: Tensor, scales: int) -> Tensor:
    """Return (N, L * A) as (N, 1, A * L, 1, 1), index a * L + position."""
    return rows.unflatten(1, (-1, scales)).transpose(1, 2).flatten(1)[:, None, :, None, None]


def padded(boxes: list[Tensor], count: int) -> tuple[Tensor, Tensor]:
    """Return as many boxes in each row, filled with boxes (0, 0), and the number of true ones."""
    out = boxes[0].new_zeros(len(boxes), count, 2)
    for row, each in zip(out, boxes, strict=True):
        row[: len(each)] = each
    return out, torch.tensor([len(each) for each in boxes])


def _anchors(case: Recording, options: Options) -> Values:
    stride, base = options["stride"], options["base_size"]
    every = anchors(options["scales"], options["length"], stride, base)
    inside = (every[:, 0] >= 0) & (every[:, 1] < options["length"] * stride)
    return {"base": anchors(options["scales"], 1, stride, base), "all": every, "inside": inside}


def _transform(case: Recording, options: Options) -> Values:
    boxes, targets = case.tensor("segments"), case.tensor("targets")
    assert boxes.shape[:2] == (options["batch"], options["n"])
    assert case.tensor("deltas").shape[2] == 2 * options["classes"]
    encoded, predicted = encode(boxes, targets), decode(boxes, case.tensor("deltas"))
    return {
        "encoded": encoded,
        "encoded_shared": encode(boxes[0], targets),
        "decoded": decode(boxes, encoded),
        "predicted": predicted,
        "clipped": clip(predicted, options["clip_length"]),
    }


def _overlap(case: Recording, options: Options) -> Values:
    boxes, others = case.tensor("segments"), case.tensor("gt")[..., :2]
    assert len(others) == options["batch"]
    return {"overlap": overlaps(boxes, others), "overlap_shared": overlaps(boxes[0], others)}


def _nms(case: Recording, options: Options) -> Values:
    rules: tuple[Rule, ...] = ("inclusive", "inclusive_gpu", "plain", "scnn")
    dets, equal = case.tensor("dets"), case.tensor("eq_dets")
    kept: dict[str, Any] = {
        f"keep_{rule}_{threshold}": nms(dets[:, :2], dets[:, 2], float(threshold), rule)
        for rule in rules for threshold in options["thresholds"]
    }  # fmt: skip
    for rule in rules:
        # Of an exact duplicate either may stay: compare the boxes.
        rows = case.tensor(f"eq_keep_{rule}")
        own = nms(equal[:, :2], equal[:, 2], float(options["equal_threshold"]), rule)
        torch.testing.assert_close(equal[own], equal[rows], rtol=0, atol=0)
        kept[f"eq_keep_{rule}"] = rows
    return kept


def _proposing(options: Options) -> Proposing:
    return Proposing(
        options["RPN_PRE_NMS_TOP_N"], options["RPN_POST_NMS_TOP_N"], float(options["RPN_NMS_THRESH"]),
        options["RPN_MIN_SIZE"], rule="inclusive",
    )  # fmt: skip


def _proposal(case: Recording, options: Options) -> Values:
    options.seen_in_parameters("phase")
    length, stride = options["length"], options["stride"]
    every = anchors(options["scales"], length, stride)
    scores = by_anchor(case.tensor("prob"), 2)[..., 1]
    found = propose(every, scores, pairs(case.tensor("deltas")), length * stride, _proposing(options))
    rois, count = padded(found, case.arrays["rois"].shape[1])
    row = torch.arange(len(rois), dtype=rois.dtype)[:, None, None].expand(-1, rois.shape[1], 1)
    return {"rois": torch.cat([row, rois], 2), "count": count}


def _anchor_targets(case: Recording, options: Options) -> Values:
    scales, length, stride = options["scales"], options["length"], options["stride"]
    rule = AnchorRule(options["positive"], options["negative"], options["rpn_batch"], options["fg_fraction"])
    draws = RecordedDraws(case)
    targets = anchor_targets(
        anchors(scales, length, stride), case.tensor("gt"), length * stride, rule, draws
    )  # fmt: skip
    assert draws.used
    weights = (weight[..., None].expand(-1, -1, 2) for weight in (targets.inside, targets.outside))
    inside, outside = (to_pairs(weight, len(scales)) for weight in weights)
    return {
        "labels": to_labels(targets.labels, len(scales)),
        "targets": to_pairs(targets.offsets, len(scales)),
        "inside_weights": inside,
        "outside_weights": outside,
    }


def _region_targets(case: Recording, options: Options) -> Values:
    rule = RegionRule(
        options["batch_rois"], options["fg_fraction"], options["fg"], tuple(options["bg"]), True,
        tuple(options["means"]), tuple(options["stds"]),
    )  # fmt: skip
    rois, draws = case.tensor("rois"), RecordedDraws(case)
    targets = region_targets(list(rois[..., 1:]), case.tensor("gt"), rule, draws)
    assert draws.used
    shape = (len(rois), rule.count)
    weights = (targets.labels > 0).float()[:, None].expand(-1, 2).unflatten(0, shape)
    return {
        "sampled_rois": targets.regions.unflatten(0, shape),
        "labels": targets.labels.float().unflatten(0, shape),
        "targets": targets.offsets.unflatten(0, shape),
        "inside_weights": weights,
        "outside_weights": weights,
    }


def _pooling(case: Recording, options: Options) -> Values:
    assert options["context_ratio"] == 1
    x = case.tensor("input").requires_grad_()
    out = pool_regions(x, case.tensor("rois"), tuple(options["pooled"]), float(options["scale"]))
    out.backward(case.tensor("cotangent"))
    return {"output": out, "grad_input": x.grad}


def _smooth_l1(case: Recording, options: Options) -> Values:
    x = case.tensor("input").requires_grad_()
    assert options["mean_over"] == [0]
    assert options["sum_over"] == list(range(1, x.dim()))
    target, inside, outside = (case.tensor(name) for name in ("target", "inside_weights", "outside_weights"))
    loss = smooth_l1(x, target, inside, outside, float(options["sigma"]))
    loss.backward()
    return {"output": loss, "grad_input": x.grad}


def _rpn_loss(case: Recording, options: Options) -> Values:
    score, twin = (case.tensor(name).requires_grad_() for name in ("score", "twin_pred"))
    assert options["sigma"] == 3
    assert len(score) == options["batch"]
    length, stride = options["length"], 8
    targets = anchor_targets(
        anchors(options["scales"], length, stride), case.tensor("gt"), length * stride,
        AnchorRule(count=options["rpn_batch"]), RecordedDraws(case),
    )  # fmt: skip
    scores = by_anchor(score, 2)
    losses = anchor_losses(scores, pairs(twin), targets)
    torch.stack(losses).sum().backward()
    background, action = scores.softmax(-1).unbind(-1)
    prob = [to_labels(each, len(options["scales"]))[:, 0, :, 0, 0] for each in (background, action)]
    return {
        "prob": torch.cat(prob, 1).view_as(score), "loss_cls": losses[0], "loss_twin": losses[1],
        "grad_score": score.grad, "grad_twin_pred": twin.grad,
    }  # fmt: skip


def _buffers(case: Recording, options: Options) -> Values:
    fps, length, step = float(options["fps"]), options["length"], options["step"]
    frames, rows = case.arrays["frames"].tolist(), case.arrays["segments"]
    scaled = np.column_stack([rows[:, 1:3] * fps, rows[:, 3]])
    instances = [scaled[rows[:, 0] == video] for video in range(len(frames))]
    rule = BufferRule(options["overlap"], options["min_length"])
    cut = list(training_buffers(frames, instances, length, step, rule))
    tested = [(video, *buffer) for video, count in enumerate(frames) for buffer in buffers(count, length, step)]
    return {
        "buffers": np.array([(each.video, *each.buffer, each.mirrored) for each in cut], np.int64),
        "buffer_windows": np.concatenate(
            [np.column_stack([np.full(len(each.instances), n), each.instances]) for n, each in enumerate(cut)]
        ),
        "test_buffers": np.array(tested),
    }


def _postprocess(case: Recording, options: Options) -> Values:
    how = Cleaning(
        float(options["score"]), float(options["buffer_nms"]), float(options["merge_nms"]), options["topk"],
        tuple(options["stds"]), rule="inclusive",
    )  # fmt: skip
    rows = zip(*(case.tensor(name) for name in ("rois", "cls_prob", "twin_pred")), strict=True)
    assert case.arrays["cls_prob"].shape[2] == options["classes"]
    found = [buffer_segments(rois, scores, offsets, options["length"], how) for rois, scores, offsets in rows]
    starts, ends = (case.arrays[f"buffer_{name}"].tolist() for name in ("start", "end"))
    spans = [Buffer(start, end) for start, end in zip(starts, ends, strict=True)]
    video = video_segments(found, spans, float(options["fps"]), how)
    return {
        "buffer_detections": with_row(found),
        "detections": video,
        "count_after_eval_nms": np.array(
            [len(suppressed(video, t / 10)) for t in range(len(case.arrays["count_after_eval_nms"]))]
        ),
    }


def _windows(case: Recording, options: Options) -> Values:
    cut = windows(options["frames"], options["lengths"], float(options["overlap"]))
    return {
        "windows": cut.rows, "times": cut.times(float(options["fps"])),
        "frame_index_every_37th": cut.frames(case.arrays["frame_index_every_37th"].shape[1])[::37],
    }  # fmt: skip


def _overlap_loss(case: Recording, options: Options) -> Values:
    logits = case.tensor("logits").requires_grad_()
    assert logits.shape[1] == options["classes"]
    loss = overlap_loss(
        logits, case.tensor("labels"), case.tensor("overlap"), float(options["weight"]), float(options["alpha"])
    )
    loss.total.backward()
    return {
        "output": loss.total, "loss_softmax": loss.class_loss, "loss_overlap": loss.overlap_loss,
        "grad_logits": logits.grad,
    }  # fmt: skip


def _prior(case: Recording, options: Options) -> Values:
    counts = case.arrays["counts"]
    values: dict[str, Any] = {"weights": window_prior(counts)}
    if "durations" in case.arrays:
        durations, classes = case.arrays["durations"], case.arrays["classes"]
        values["counts"] = window_counts(durations, classes, counts.shape[1], options["window_seconds"])
    else:
        assert len(options["classes"]) == counts.shape[1]
        assert tuple(options["window_seconds"]) == seconds_of((16, 32, 64, 128, 256, 512), 25)
    return values


def _window_segments(case: Recording, options: Options) -> Values:
    lengths = (16, 32, 64, 128, 256, 512)[: len(case.arrays["weights"])]
    number, segments = window_segments(
        windows(options["frames"], lengths), case.arrays["proposal_score"], case.arrays["class_prob"],
        case.arrays["weights"], float(options["fps"]), lengths, float(options["proposal_threshold"]),
        float(options["nms"]),
    )  # fmt: skip
    listed = segments[:, 3] > 0
    label, start, end, score = segments[listed].T
    return {"detections": np.column_stack([number[listed], start, end, score, label])}


def _model(case: Recording, options: Options) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Return the config of a recorded network, which its names and shapes tell, and its weights in own names."""
    shapes = {name: tuple(shape) for name, shape in case.meta["param_names"]}
    variant = "pt" if "RCNN_rpn.RPN_Conv2.weight" in shapes else "caffe"
    assert tuple(options["pool"]) == CELLS[variant]
    if "RCNN_base.0.bias" in shapes:
        backbone: dict[str, Any] = {"kind": "c3d"}
    else:
        blocks = {name.split(".")[2] for name in shapes if name.startswith("RCNN_base.6.")}
        bottleneck = "RCNN_base.4.0.conv3.weight" in shapes
        projects = "RCNN_base.5.0.downsample.0.weight" in shapes
        depth = {(2, False): 18, (6, False): 34, (6, True): 50, (23, True): 101}[len(blocks), bottleneck]
        backbone = {"kind": "resnet3d", "depth": depth, "shortcut": "B" if projects else "A"}
    first = shapes["RCNN_rpn.RPN_cls_score.weight"]
    detector = {
        "kind": "rc3d", "variant": variant, "scales": [float(scale) for scale in options["scales"]],
        "channels": first[1],
    }  # fmt: skip
    tree = {"frames": options["frames"], "size": options["size"], "backbone": backbone, "detector": detector}
    config = ModelConfig.parse(tree)
    return config, convert_model(case.params(), config)


def _network(case: Recording, options: Options) -> Values:
    config, state = _model(case, options)
    net = build_model(config, options["classes"] - 1).eval()
    assert isinstance(net, RC3D)
    missing, unknown = net.load_state_dict(state, strict=False)
    assert not unknown
    assert all(name.endswith("num_batches_tracked") for name in missing), missing
    assert sum(parameter.numel() for parameter in net.parameters()) == case.meta["n_params"]
    seed, shape = re.fullmatch(
        r"np\.random\.default_rng\((\d+)\)\.integers\(-4,5,\(([\d,]+)\)\)/2 float32.*", case.meta["input_recipe"]
    ).groups()  # pyright: ignore[reportOptionalMemberAccess]
    sizes = tuple(map(int, shape.split(",")))
    clips = torch.from_numpy((np.random.default_rng(int(seed)).integers(-4, 5, sizes) / 2).astype(np.float32))
    scales = len(options["scales"])
    taps: dict[str, Tensor] = {}
    with torch.no_grad():
        taps["base"] = maps = net.shared(clips)
        x = maps
        for number, conv in enumerate(net.rpn.convs, start=1):
            x = taps[f"rpn_conv{number}"] = conv(x).relu()
        taps["rpn_pool"] = x.amax((3, 4), keepdim=True)
        scores, offsets = net.rpn(maps)
        regions = case.tensor("rois")
        taps["roi_pool"] = pool_regions(maps, regions, net.settings.cells, 1 / net.settings.stride)
        taps["tail"] = net.of_regions(taps["roi_pool"])
        classes, moves = net.classify(maps, regions)
    assert {name: list(tap.shape) for name, tap in taps.items()} == case.meta["shapes"]
    return {
        "rpn_score": _maps(scores, scales), "rpn_prob": _maps(scores.softmax(-1), scales),
        "rpn_twin_pred": to_pairs(offsets, scales), "cls_prob": classes.softmax(1), "twin_pred": moves,
        **{f"tap/{name}": torch.stack([x.mean(), x.std(), x.abs().max()]) for name, x in taps.items()},
    }  # fmt: skip


def _maps(values: Tensor, scales: int) -> Tensor:
    """Return (N, L * A, 2) as (N, 2A, L, 1, 1): channel k * A + a."""
    return values.unflatten(1, (-1, scales)).permute(0, 3, 2, 1).flatten(1, 2)[..., None, None]


class Tiny(RC3D):
    """The detector on stored maps: there is no backbone, and one linear layer gives the features of regions."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], settings: RegionSettings, classes: int) -> None:
        torch.nn.Module.__init__(self)
        self.dropout, self.still = torch.nn.Identity(), []
        wide, inputs = shapes["RCNN_top.0.weight"]
        convs = sorted(name for name in shapes if name.startswith("RCNN_rpn.RPN_Conv") and name.endswith("weight"))
        channels, maps = shapes[convs[0]][:2]
        self.top = torch.nn.Linear(inputs, wide)
        strides = STRIDES["pt" if len(convs) == 2 else "caffe"]
        self.add_layers(maps, channels, wide, classes, strides, settings)

    def shared(self, clips: Tensor) -> Tensor:
        return clips

    def of_regions(self, cells: Tensor) -> Tensor:
        return self.top(cells.flatten(1)).relu()


def _tiny(case: Recording, options: Options) -> Values:
    training = case.meta["mode"] == "train"
    shapes = {name: tuple(shape) for name, shape in case.meta["param_names"]}
    wide, inputs = shapes["RCNN_top.0.weight"]
    assert options["top"] == f"Linear({inputs}, {wide}), ReLU"
    nms = float(options["rpn_nms"])
    settings = RegionSettings(
        options["scales"], 8, tuple(options["pool"]), Proposing(12000, 2000, nms, rule="inclusive"),
        Proposing(6000, 300, nms, rule="inclusive"), AnchorRule(count=options["rpn_batch"]),
        RegionRule(options["batch_rois"]),
    )  # fmt: skip
    net = Tiny(shapes, settings, options["classes"] - 1).train(training)
    state = rename(case.params(), [*rc3d_rules("c3d"), (r"^fc6", "top")])
    for name, factor in _factors(case.meta.get("param_scaling", "")).items():
        full = name if name.startswith("RCNN_") else f"RCNN_rpn.{name}"
        state[rename_one(full, rc3d_rules("c3d"))] *= factor
    net.load_state_dict(state)
    maps, length = case.tensor("input").requires_grad_(), options["length"]
    assert maps.shape[1:3] == (options["channels"], length)
    scales = len(options["scales"])
    scores, offsets = net.rpn(maps)
    values: dict[str, Any] = {
        "rpn_prob": _maps(scores.softmax(-1), scales), "rpn_twin_pred": to_pairs(offsets, scales),
    }  # fmt: skip
    if not training:
        boxes = anchors(options["scales"], length)
        found = propose(boxes, scores.softmax(-1)[..., 1], offsets, 8 * length, settings.test)
        rois, _ = padded(found, case.arrays["rois"].shape[1])
        row = torch.arange(len(rois), dtype=rois.dtype)[:, None, None].expand(-1, rois.shape[1], 1)
        regions = torch.cat([row, rois], 2)
        classes, moves = net.classify(maps, regions.flatten(0, 1))
        values |= {"rois": regions, "cls_prob": classes.softmax(1), "twin_pred": moves}
        # What the detector itself returns are the same regions, without the padding.
        own = net(maps)
        torch.testing.assert_close(own[0].boxes, found[0])
        return {name: _like(value, case.arrays[name]) for name, value in values.items()}
    net.draws = RecordedDraws(case)
    seen: dict[str, Tensor] = {}
    classify = net.classify

    def noted(maps: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        seen["rois"] = regions
        seen["classes"], seen["moves"] = classify(maps, regions)
        return seen["classes"], seen["moves"]

    net.classify = noted
    losses = net(maps, case.tensor("gt"))
    losses.sum().backward()
    assert net.draws.used
    labels = case.tensor("rois_label")
    moves = seen["moves"].unflatten(1, (-1, 2))[torch.arange(len(labels)), labels]
    names = ("loss_rpn_cls", "loss_rpn_twin", "loss_cls", "loss_twin")
    values |= {"rois": seen["rois"], "cls_prob": seen["classes"].softmax(1), "twin_pred": moves, "rois_label": labels}
    values |= dict(zip(names, losses, strict=True))
    values |= {
        "grad_input": maps.grad, "grad_cls_score_weight": net.fc.weight.grad,
        "grad_rpn_cls_score_bias": dict(net.rpn.named_parameters())["score.bias"].grad,
    }  # fmt: skip
    return {name: _like(value, case.arrays[name]) for name, value in values.items()}


def _like(value: Tensor, recorded: np.ndarray) -> Tensor:
    return value.reshape(recorded.shape)


def _factors(text: str) -> dict[str, float]:
    """Return what parameters were multiplied by, from "after the recipe: A and B times 0.15, C times 0.3"."""
    factors = {}
    for part in filter(None, text.removeprefix("after the recipe: ").split(", ")):
        names, factor = part.rsplit(" times ", 1)
        factors |= dict.fromkeys(names.split(" and "), float(factor))
    return factors


def _evaluation(case: Recording, options: Options) -> Values:
    options.seen_in_parameters("seed")
    truth = Instances(*case.arrays["ground_truth"].T)
    detections = Detections(*case.arrays["detections"].T)
    assert truth.video.max() < len(case.arrays["videos"])
    given = truth, detections, options["classes"], options["thresholds"]
    official = evaluate(*given, "thumos14", options["ambiguous_label"])
    other = evaluate(*given, "activitynet")
    return {
        "ap": official.ap, "map": official.map, "ap_activitynet": other.ap, "map_activitynet": other.map,
    }  # fmt: skip


CASES: Mapping[str, Callable[[Recording, Options], Values]] = {
    "1-D anchors": _anchors,
    "1-D box transform": _transform,
    "1-D IoU with inclusive ends": _overlap,
    "1-D greedy NMS": _nms,
    "proposal layer": _proposal,
    "anchor targets": _anchor_targets,
    "proposal targets": _region_targets,
    "temporal RoI max pooling": _pooling,
    "smooth L1 with inside and outside weights": _smooth_l1,
    "RPN losses": _rpn_loss,
    "R-C3D buffers": _buffers,
    "R-C3D test-time post-processing": _postprocess,
    "sliding windows": _windows,
    "overlap loss": _overlap_loss,
    "window-length prior": _prior,
    "window-length prior of THUMOS14 validation": _prior,
    "Segment-CNN post-processing": _window_segments,
    "THUMOS14 detection AP": _evaluation,
    "R-C3D detector on a stored feature map": _tiny,
}


def compared(recording: Recording) -> Iterator[tuple[str, Any, np.ndarray, Any]]:
    """Yield each recorded output: name, own value, recorded value, tolerance. Options that nothing reads fail."""
    options = Options(recording.meta["config"])
    module = recording.meta["module"]
    compute = _network if module.startswith("R-C3D network, ") else CASES.get(module)
    assert compute is not None, f"{recording.file}: no case for the module {module!r}"
    values = compute(recording, options)
    assert not options.unread, f"{recording.file}: the case ignores the options {options.unread}"
    tolerances = recording.meta["tolerance"]
    unknown = set(tolerances) & set(recording.arrays) - set(values)
    assert not unknown, f"{recording.file}: the case does not compute {unknown}"
    for name, value in values.items():
        yield name, value, recording.arrays[name], tolerances.get(name, "exact")
