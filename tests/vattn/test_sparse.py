"""Sparse spatial attention: peaks, kernels, the resampler, and the branches around a network."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from tests.vattn.counting import count_macs, kept_per_clip
from tests.vattn.golden import FOLDER, Recording
from tests.vattn.reference.sparse import Plain, draws_of_cells
from tests.vattn.reference.sparse import grid as plain_grid
from tests.vattn.reference.sparse import saliency as plain_saliency
from tests.vattn.support import model
from vattn.canonical import architecture_id
from vattn.config import ModelConfig, TrialConfig
from vattn.cost import cost
from vattn.data import prepare
from vattn.model import SparseModel, build_model
from vattn.sparse import (
    BRANCHES,
    SIDE,
    Branch,
    Peaks,
    SparseAttention,
    SparseConfig,
    entropy,
    find_peaks,
    peak_mask,
    response_map,
    saliency,
)
from vattn.training.fit import fit

BOTH = ("discriminative", "complementary")


def recording(case: str) -> Recording:
    file = FOLDER / f"{case}__eval.npz"
    if not file.is_file():
        pytest.skip(f"{file} is not there; name its folder in VATTN_GOLDEN")
    return Recording(file)


def sparse_model(*branches: Branch, **changes: Any) -> ModelConfig:
    return model(sparse={"branches": list(branches or BRANCHES)} | changes, size=64)


def built(config: ModelConfig, classes: int = 7) -> SparseModel:
    net = build_model(config, classes)
    assert isinstance(net, SparseModel)
    return net


# Recordings of the authors' code. Its outputs and their gradients are tested by test_golden.py.


def test_peaks_equal_those_of_the_authors_code() -> None:
    recorded = recording("s3n_peaks_w3")
    maps = recorded.tensor("input")

    mask = peak_mask(maps.flatten(0, 1), window=3, above_mean=True)

    torch.testing.assert_close(mask.view_as(maps).nonzero(), recorded.tensor("peak_list"), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("case", "split"), [("s3n_resample_p0", "all"), ("s3n_resample_p1", "random"), ("s3n_resample_p2", "extreme")]
)
def test_each_step_of_resampling_equals_that_of_the_authors_code(case: str, split: Any) -> None:
    recorded = recording(case)
    attention = SparseAttention(SparseConfig())
    radii = recorded.params()
    attention.load_state_dict({
        "betas.discriminative": radii["radius.scale"].squeeze(),
        "betas.complementary": radii["radius_inv.scale"].squeeze(),
    })  # fmt: skip
    maps = recorded.tensor("class_response_maps")

    draws = draws_of_cells(attention, maps[:, None], recorded.tensor("uniform_draws").float())
    saliencies = attention.saliencies(maps[:, None], split, draws)

    torch.testing.assert_close(entropy(maps.mean((2, 3))), recorded.tensor("entropy_top5"))
    for branch, name in zip(BOTH, ("dis", "com"), strict=True):
        expected = recorded.tensor(f"saliency_{name}")[:, 0]
        torch.testing.assert_close(saliencies[branch], expected, **recorded.meta["tolerance"]["saliency"])
    images = torch.cat([attention.resample(recorded.tensor("input"), saliencies[branch]) for branch in BOTH], 1)
    # Rounding in 61 x 61 sums gives the recorded coordinates an error of 5e-6 of an image: see reference/sparse.py.
    torch.testing.assert_close(images, recorded.tensor("output"), rtol=1e-4, atol=1e-4)


# Peaks


def test_among_equal_neighbours_the_first_is_the_peak() -> None:
    ridge = torch.zeros(1, 5, 5)
    ridge[0, 2, 1:4] = 1

    assert peak_mask(ridge, window=3, above_mean=True).nonzero().tolist() == [[0, 2, 1]]


def test_a_peak_below_the_mean_is_excluded_unless_the_filter_is_off() -> None:
    # A high plateau with a peak to the left, and a low plateau with a lower peak to the right.
    map_ = torch.tensor([10.0, 11, 10, 10, 10, 0, 0, 1, 0]).expand(1, 9, 9).clone()
    map_[0, 1:] *= 0.9

    with_filter, without = (peak_mask(map_, window=3, above_mean=on) for on in (True, False))

    assert with_filter[0, 0].nonzero().flatten().tolist() == [1]
    assert without[0, 0].nonzero().flatten().tolist() == [1, 7]


def test_a_wider_window_gives_fewer_peaks() -> None:
    two_apart = torch.zeros(1, 7, 7)
    two_apart[0, 3, 2], two_apart[0, 3, 4] = 1.0, 0.5

    counts = [int(peak_mask(two_apart, window, above_mean=True).sum()) for window in (3, 5)]

    assert counts == [2, 1]


def test_a_flat_map_has_no_peak() -> None:
    assert not find_peaks(torch.zeros(2, SIDE, SIDE), 3, False, "all").discriminative.any()


def peaked_maps() -> Tensor:
    response = torch.zeros(2, SIDE, SIDE)
    response[0, 5, 6], response[0, 20, 9], response[0, 25, 25] = 1.0, 0.7, 0.4
    response[1, 3, 3] = 1.0
    return response


def places(mask: Tensor) -> list[list[int]]:
    return mask.nonzero().tolist()


def test_peaks_below_their_draw_are_complementary() -> None:
    draws = torch.zeros(2, SIDE, SIDE)
    draws[0, 5, 6], draws[0, 20, 9], draws[0, 25, 25] = 0.99, 0.71, 0.4

    peaks = find_peaks(peaked_maps(), 3, True, "random", draws)

    assert places(peaks.discriminative) == [[0, 5, 6], [0, 25, 25], [1, 3, 3]]
    assert places(peaks.complementary) == [[0, 20, 9]]


def test_in_evaluation_the_highest_peak_is_discriminative_and_the_lowest_complementary() -> None:
    peaks = find_peaks(peaked_maps(), 3, True, "extreme")

    assert places(peaks.discriminative) == [[0, 5, 6], [1, 3, 3]]
    assert places(peaks.complementary) == [[0, 25, 25], [1, 3, 3]]


# The map in which peaks are searched


def test_low_entropy_uses_the_best_class_and_high_entropy_the_five_best() -> None:
    maps = one_hot(torch.arange(6) * 150, SIDE**2).float().view(1, 6, SIDE, SIDE)  # each class responds at one place
    low_entropy = torch.tensor([[50.0, 0, 0, 0, 0, 0]])
    high_entropy = torch.tensor([[1.0, 0.9, 0.8, 0.7, 0.6, 0.5]])

    responses = [response_map(maps, scores, 0.2)[0].flatten() for scores in (low_entropy, high_entropy)]

    places = [response.nonzero().flatten().tolist() for response in responses]
    assert places == [[0], [0, 150, 300, 450, 600]]


def test_entropy_is_the_sum_over_the_five_best_without_normalisation() -> None:
    # Ten equal classes: five terms -0.1 log 0.1.
    torch.testing.assert_close(entropy(torch.zeros(1, 10)), torch.tensor([0.5 * math.log(10)]))


# Kernels


def peak(response: float, images: int = 1) -> Peaks:
    """Return a peak at (15, 15) of the first of these images."""
    map_ = torch.zeros(images, SIDE, SIDE)
    map_[0, 15, 15] = response
    return Peaks(map_, map_ > 0, map_ > 0)


@given(
    seed=st.integers(0, 2**32 - 1), split=st.sampled_from(["all", "random", "extreme"]),
    branch=st.sampled_from(BOTH), paper_kernels=st.booleans(),
)  # fmt: skip
@settings(max_examples=10)
def test_saliency_is_the_sum_over_the_peaks(seed: int, split: Any, branch: Any, paper_kernels: bool) -> None:
    response = torch.rand(3, SIDE, SIDE, dtype=torch.double, generator=torch.Generator().manual_seed(seed))
    response[2] = 0
    response.requires_grad_()
    peaks = find_peaks(response, 5, True, split)
    results = []
    for function in (saliency, plain_saliency):
        beta = torch.tensor(4.0 if paper_kernels else 0.2, dtype=torch.double, requires_grad=True)
        salient = function(peaks, branch, beta, paper_kernels)
        weight = torch.linspace(-1, 1, SIDE, dtype=torch.double)
        results.append((salient, *torch.autograd.grad((salient * weight).sum(), (response, beta))))

    torch.testing.assert_close(*results)


@pytest.mark.parametrize(("branch", "height"), [("discriminative", 0.5), ("complementary", 2.0)])
def test_a_kernel_has_the_height_and_width_of_equation_6(branch: Branch, height: float) -> None:
    salient = saliency(peak(0.5), branch, torch.tensor(0.2), paper_kernels=False)

    # 3 cells to the right and 1 down: d^2 = 10; 2 R (31 beta)^2 = 6.2^2 = 38.44.
    assert salient[0, 15, 15].item() == pytest.approx(height + 0.09)
    assert salient[0, 16, 18].item() == pytest.approx(height * math.exp(-10 / 38.44) + 0.09)


def test_the_printed_kernel_starts_as_the_default_kernel_without_the_base() -> None:
    plain, printed = (SparseAttention(SparseConfig(paper_kernels=on)) for on in (False, True))

    for branch in BOTH:
        default, as_printed = (
            saliency(peak(0.5), branch, net.betas[branch], on) for net, on in ((plain, False), (printed, True))
        )
        torch.testing.assert_close(as_printed + 0.09, default)


@pytest.mark.parametrize("paper_kernels", [False, True])
def test_an_image_without_peaks_has_uniform_saliency(paper_kernels: bool) -> None:
    salient = saliency(peak(0.5, images=2), "discriminative", torch.tensor(0.1), paper_kernels)

    assert salient[1].min() == salient[1].max() > 0


# The resampler


def test_uniform_saliency_does_not_change_an_image() -> None:
    attention, images = SparseAttention(SparseConfig()), torch.rand(2, 3, 20, 24)

    torch.testing.assert_close(attention.resample(images, torch.ones(2, SIDE, SIDE)), images, rtol=0, atol=1e-4)


def test_salient_regions_are_enlarged_and_the_rest_stays_in_the_image() -> None:
    salient = saliency(peak(1.0), "discriminative", torch.tensor(0.09), paper_kernels=False)

    x = SparseAttention(SparseConfig()).grid(salient)[0, 0, 15].diff()

    uniform = 2 / (SIDE - 1)
    # Coordinates are closer together where the image is enlarged. They still cover the image, in order.
    assert x[14:16].max() < 0.9 * uniform < x[[5, -6]].min()
    assert x.min() >= 0


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=5)
def test_two_matrices_equal_convolutions_over_a_padded_map(seed: int) -> None:
    salient = torch.rand(2, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.01
    attention = SparseAttention(SparseConfig()).double()

    torch.testing.assert_close(attention.grid(salient), plain_grid(salient), rtol=1e-5, atol=1e-6)


def test_gradients_reach_pixels_widths_and_class_maps() -> None:
    torch.manual_seed(0)
    attention = SparseAttention(SparseConfig())
    # Smooth images and few peaks, so that the kinks of bilinear sampling do not matter.
    clips = torch.linspace(0, 1, 16).expand(1, 3, 1, 16, 16).clone().requires_grad_()
    maps = peaked_maps()[:1, None, None].expand(1, 1, 3, SIDE, SIDE).clone().requires_grad_()

    resampled = attention(clips, maps, "all")
    torch.stack(list(resampled.values())).square().sum().backward()

    assert all(beta.grad is not None and beta.grad != 0 for beta in attention.betas.values())
    for input_ in (clips, maps):
        assert input_.grad is not None
        assert input_.grad.abs().sum() > 0


def test_the_gradient_of_a_width_equals_its_difference_quotient() -> None:
    attention = SparseAttention(SparseConfig()).double()
    images = torch.linspace(0, 1, 32, dtype=torch.float64).square().expand(1, 3, 32, 32)
    peaks = find_peaks(peaked_maps()[:1].double(), 3, True, "all")
    weight = torch.linspace(-1, 1, 32, dtype=torch.float64)

    def total(beta: Tensor) -> Tensor:
        return (attention.resample(images, saliency(peaks, "complementary", beta, False)) * weight).sum()

    assert torch.autograd.gradcheck(
        total, torch.tensor(0.3, dtype=torch.float64, requires_grad=True), eps=1e-7, atol=1e-3
    )


# The branches around a network


def test_the_branches_share_one_network() -> None:
    alone, with_branches = (build_model(config, 7) for config in (model(size=64), sparse_model()))

    # One linear layer on the features of three branches, and two widths.
    added = 3 * with_branches.backbone.channels * 7 + 7 + 2
    assert sum(p.numel() for p in with_branches.parameters()) == sum(p.numel() for p in alone.parameters()) + added


@pytest.mark.parametrize("branches", [("original", "discriminative"), ("original", "complementary"), BOTH, BRANCHES])
def test_each_row_of_table_4_returns_scores_of_its_branches_and_the_total(branches: Sequence[Branch]) -> None:
    net = built(sparse_model(*branches)).train()

    scores = net(torch.randn(2, 3, 4, 64, 64))
    net.loss(scores, torch.tensor([1, 2])).backward()

    assert scores.shape == (2, 1 + len(branches), 7)
    assert set(net.branches) == set(branches)
    assert all(p.grad is not None for p in net.parameters())
    assert net.eval()(torch.randn(2, 3, 4, 64, 64)).shape == (2, 7)


def test_the_loss_is_equation_8() -> None:
    net, labels = built(sparse_model()), torch.tensor([3, 1, 4, 1])
    scores = torch.randn(4, 4, 7)

    expected = sum(cross_entropy(scores[:, branch], labels) for branch in range(4))

    torch.testing.assert_close(net.loss(scores, labels), expected)


def test_the_original_branch_is_the_network_itself() -> None:
    torch.manual_seed(0)
    alone, with_branches = build_model(model(size=64), 7).eval(), built(sparse_model()).eval()
    with_branches.load_state_dict(alone.state_dict(), strict=False)
    clips = torch.randn(2, 3, 4, 64, 64)

    torch.testing.assert_close(with_branches.scores(clips)[:, 1], alone(clips))


def test_training_has_the_stages_alone_then_all_peaks_then_random_peaks() -> None:
    config = SparseConfig(alone=0.4, warmup=0.2)

    assert [config.stage(epoch, 10) for epoch in (1, 4, 5, 6, 7, 10)] == ["alone"] * 2 + ["all"] * 2 + ["random"] * 2
    assert SparseConfig(alone=0.99).stage(1, 1) == "random"


def test_in_the_first_stage_only_the_network_has_gradients() -> None:
    net = built(sparse_model()).train()
    net.begin(1, 10)

    scores = net(torch.randn(2, 3, 4, 64, 64))
    net.loss(scores, torch.tensor([1, 2])).backward()

    assert scores.shape == (2, 1, 7)
    assert {name.split(".")[0] for name, p in net.named_parameters() if p.grad is None} == {"sparse", "total"}


def test_frames_of_one_segment_are_resampled_in_the_same_way() -> None:
    attention = SparseAttention(SparseConfig())
    maps = torch.rand(1, 2, 3, 4, 4)
    still = torch.rand(1, 3, 1, 16, 16).expand(1, 3, 10, 16, 16)

    resampled = attention(still, maps, "extreme")["discriminative"]

    for segment in (resampled[:, :, :5], resampled[:, :, 5:]):
        torch.testing.assert_close(segment, segment[:, :, :1].expand_as(segment))
    assert not torch.allclose(resampled[:, :, 0], resampled[:, :, 5])


@pytest.mark.parametrize("kind", ["mobilenet_v2", "shufflenet_v2", "inception_v3", "resnet_tdn"])
def test_sparse_attention_works_with_image_backbones(kind: str) -> None:
    size = 80 if kind == "inception_v3" else 32
    backbone = {"kind": kind} | ({"depth": 50} if kind == "resnet_tdn" else {})
    config = ModelConfig.parse({"frames": 2, "size": size, "backbone": backbone, "sparse": {}})

    net = built(config).eval()

    assert net(torch.randn(1, 3, 2 * config.backbone.frames_per_segment, size, size)).shape == (1, 7)


# Config


def test_the_original_branch_alone_is_no_sparse_attention() -> None:
    assert sparse_model("original").sparse == "none"
    assert architecture_id(sparse_model("original")) == architecture_id(model(size=64))


def test_the_width_of_an_absent_branch_does_not_change_the_identity() -> None:
    identities = {architecture_id(sparse_model("original", "discriminative", beta2=beta)) for beta in (0.3, 0.5)}
    of_used_width = {architecture_id(sparse_model("discriminative", "original", beta1=beta)) for beta in (0.09, 0.5)}

    assert len(identities) == 1
    assert len(of_used_width) == 2


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"branches": []}, "must name at least one"),
        ({"branches": ["original", "original"]}, "names a branch twice"),
        ({"window": 4}, "Input should be 3 or 5"),
        ({"beta1": 0.0}, "greater than 0"),
        ({"alone": 1.0}, "less than 1"),
    ],
)
def test_invalid_options_are_refused(changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        model(sparse=changes)


# Cost


@pytest.mark.parametrize("branches", [("original", "complementary"), BRANCHES])
def test_multiply_accumulates_and_parameters_equal_the_counted_ones(branches: Sequence[Branch]) -> None:
    config = sparse_model(*branches)
    net, total = built(config), cost(config, 7)
    plain = Plain(net.sparse.config)
    net.sparse = plain

    assert total.macs == count_macs(net, torch.randn(1, 3, 4, 64, 64))
    assert total.params == sum(p.numel() for p in net.parameters())


def test_activations_are_close_to_those_that_autograd_keeps() -> None:
    torch.manual_seed(0)
    config = sparse_model()

    kept = kept_per_clip(built(config), torch.randn(1, 3, 4, 64, 64))

    assert cost(config, 7).activations == pytest.approx(kept, rel=0.1)


def test_the_cost_is_itemised() -> None:
    network, with_branches = cost(model(size=64), 7), cost(sparse_model(), 7)

    rows = {row.what: row.macs for row in with_branches.rows if row.stage < 0}

    # 4 frames; 2 x 2 pixels, 128 channels, 7 classes; 3 convolutions of 61 x 61 over 31 x 31 for each of 2 branches.
    assert rows == {
        "discriminative": network.macs, "complementary": network.macs, "class maps": 4 * 4 * 128 * 7,
        "resampling": 2 * 4 * 3 * 61**2 * 31**2, "total": 3 * 128 * 7,
    }  # fmt: skip
    assert with_branches.macs == network.macs + sum(rows.values())


def test_around_tcnn_the_cost_is_three_passes_and_little_more() -> None:
    tcnn = {"frames": 16, "size": 224, "backbone": {"kind": "tcnn"}}
    network, with_branches = (cost(ModelConfig.parse(tcnn | sparse), 101) for sparse in ({}, {"sparse": {}}))

    items = {row.what: row.macs / 1e9 for row in with_branches.rows if row.stage < 0}

    # The paper prints 52.3 and itemises nothing, so this is not a target. About 5 of it are unexplained.
    assert network.gflops == pytest.approx(15.663, abs=0.0006)
    assert items["discriminative"] == items["complementary"] == network.gflops
    assert items["class maps"] == pytest.approx(16 * 7 * 7 * 512 * 101 / 1e9)
    assert items["resampling"] == pytest.approx(2 * 16 * 3 * 61**2 * 31**2 / 1e9)
    assert with_branches.gflops == pytest.approx(3 * 15.663 + 0.0405 + 0.3433 + 0.0002, abs=0.002)


def test_a_network_whose_features_are_no_averages_is_refused() -> None:
    with pytest.raises(ValidationError, match="features of a c3d are no averages of maps"):
        ModelConfig.parse({"frames": 16, "size": 112, "backbone": {"kind": "c3d"}, "sparse": {}})


@pytest.mark.parametrize("kind", ["resnet3d", "p3d", "tcnn"])
def test_sparse_attention_works_with_clip_backbones(kind: str) -> None:
    sizes = {"resnet3d": {"depth": 10, "width": 0.25}, "p3d": {"depth": 17, "width": 0.25}, "tcnn": {}}
    config = ModelConfig.parse({"frames": 16, "size": 64, "backbone": {"kind": kind} | sizes[kind], "sparse": {}})
    net = built(config).train()

    net.loss(net(torch.randn(2, 3, 16, 64, 64)), torch.tensor([1, 2])).backward()

    assert all(p.grad is not None for p in net.parameters())


# Training


def trial(epochs: int, **sparse: Any) -> TrialConfig:
    return TrialConfig.parse({
        "data": {"kind": "motion", "train_clips": 2, "val_clips": 2, "test_clips": 1, "frames": 8, "size": 32,
                 "store": {"size": 32}},
        "model": {"frames": 2, "size": 32, "backbone": {"kind": "resnet", "depth": 10, "width": 0.125},
                  "sparse": sparse},
        "train": {"epochs": epochs, "batch": 16, "lr": 0.01},
    })  # fmt: skip


@pytest.mark.medium
def test_training_reports_each_branch_and_resumes_after_an_interruption(tmp_path: Path) -> None:
    config = trial(3, alone=0.34, warmup=0.34)
    cache = prepare(config.data, tmp_path)
    whole = list(fit(config, cache, tmp_path / "whole"))
    list(itertools.islice(fit(config, cache, tmp_path / "cut"), 2))

    resumed = list(fit(config, cache, tmp_path / "cut"))

    assert {f"top1_{branch}" for branch in BRANCHES} < whole[-1].metrics.keys()
    assert [epoch.metrics for epoch in resumed] == [epoch.metrics for epoch in whole]
    states = [torch.load(tmp_path / run / "model.pt", weights_only=True) for run in ("whole", "cut")]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


def _worker(rank: int, config: TrialConfig, cache: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=2)
    torch.save([epoch.metrics for epoch in fit(config, cache, folder)], folder / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_workers_agree_through_all_stages(tmp_path: Path) -> None:
    config = trial(3, alone=0.34, warmup=0.34, branches=["discriminative", "complementary"])
    cache = prepare(config.data, tmp_path)

    mp.spawn(_worker, (config, cache, tmp_path), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]

    # The evaluation is summed over workers; the training loss is that of each worker.
    first, second = (
        [metrics | {"train_loss": 0} for metrics in torch.load(tmp_path / f"rank{rank}.pt")] for rank in (0, 1)
    )
    assert first == second


def test_coordinates_are_exact_in_mixed_precision() -> None:
    torch.manual_seed(0)
    net, clips = built(sparse_model()).eval(), torch.randn(1, 3, 4, 64, 64)
    maps = net.class_maps(clips)[1]
    plain = net.sparse(clips, maps, "extreme")

    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = net.sparse(clips, maps, "extreme")

    torch.testing.assert_close(mixed, plain, rtol=0, atol=0)


def test_the_loss_of_shares_that_are_all_of_one_class_is_that_of_labels() -> None:
    net = build_model(model(sparse={}), 5)
    scores, labels = torch.randn(3, 1 + len(net.branches), 5), torch.tensor([0, 4, 2])

    shares = one_hot(labels, 5).float()

    torch.testing.assert_close(net.loss(scores, shares), net.loss(scores, labels))
