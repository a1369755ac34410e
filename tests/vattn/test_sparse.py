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
from tests.vattn.reference.sparse import Plain
from tests.vattn.reference.sparse import grid as plain_grid
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
from vattn.train import fit

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


# What the authors' code gave; its outputs, and the gradients of them, are held by test_golden.py.


def test_peaks_are_those_of_the_authors_code() -> None:
    recorded = recording("s3n_peaks_w3")
    maps = recorded.tensor("input")

    found = peak_mask(maps.flatten(0, 1), window=3, above_mean=True)

    torch.testing.assert_close(found.view_as(maps).nonzero(), recorded.tensor("peak_list"), rtol=0, atol=0)


@pytest.mark.parametrize(("case", "split"), [("s3n_resample_p0", "all"), ("s3n_resample_p1", "random")])
def test_each_step_to_the_new_images_is_that_of_the_authors_code(case: str, split: Any) -> None:
    recorded = recording(case)
    attention = SparseAttention(SparseConfig())
    maps = recorded.tensor("class_response_maps")

    found = attention.saliencies(maps[:, None], split, recorded.tensor("uniform_draws").float())

    torch.testing.assert_close(entropy(maps.mean((2, 3))), recorded.tensor("entropy_top5"))
    for branch, name in zip(BOTH, ("dis", "com"), strict=True):
        expected = recorded.tensor(f"saliency_{name}")[:, 0]
        torch.testing.assert_close(found[branch], expected, **recorded.meta["tolerance"]["saliency"])
    images = torch.cat([attention.resample(recorded.tensor("input"), found[branch]) for branch in BOTH], 1)
    # The recorded places are off by 5e-6 of an image by the rounding of 61 x 61 sums: see reference/sparse.py.
    torch.testing.assert_close(images, recorded.tensor("output"), rtol=1e-4, atol=1e-4)


# Peaks


def test_of_equal_neighbours_the_first_is_the_peak() -> None:
    ridge = torch.zeros(1, 5, 5)
    ridge[0, 2, 1:4] = 1

    assert peak_mask(ridge, window=3, above_mean=True).nonzero().tolist() == [[0, 2, 1]]


def test_a_peak_below_the_mean_is_left_out_unless_the_filter_is_off() -> None:
    # A high plain with a hill on it to the left, a low plain with a lower hill on it to the right.
    land = torch.tensor([10.0, 11, 10, 10, 10, 0, 0, 1, 0]).expand(1, 9, 9).clone()
    land[0, 1:] *= 0.9

    with_filter, without = (peak_mask(land, window=3, above_mean=on) for on in (True, False))

    assert with_filter[0, 0].nonzero().flatten().tolist() == [1]
    assert without[0, 0].nonzero().flatten().tolist() == [1, 7]


def test_a_wider_window_has_fewer_peaks() -> None:
    two_apart = torch.zeros(1, 7, 7)
    two_apart[0, 3, 2], two_apart[0, 3, 4] = 1.0, 0.5

    counts = [int(peak_mask(two_apart, window, above_mean=True).sum()) for window in (3, 5)]

    assert counts == [2, 1]


def test_a_map_without_height_has_no_peak() -> None:
    assert len(find_peaks(torch.zeros(2, SIDE, SIDE), 3, False, "all").image) == 0


def mountains() -> Tensor:
    response = torch.zeros(2, SIDE, SIDE)
    response[0, 5, 6], response[0, 20, 9], response[0, 25, 25] = 1.0, 0.7, 0.4
    response[1, 3, 3] = 1.0
    return response


def test_draws_share_the_peaks_out_in_reading_order() -> None:
    found = find_peaks(mountains(), 3, True, "random", draws=torch.tensor([0.99, 0.71, 0.4, 0.0]))

    assert torch.stack(found[:3], 1).tolist() == [[0, 5, 6], [0, 20, 9], [0, 25, 25], [1, 3, 3]]
    assert found.discriminative.tolist() == [True, False, True, True]
    assert found.complementary.tolist() == [False, True, False, False]


def test_in_evaluation_the_highest_peak_discriminates_and_the_lowest_complements() -> None:
    found = find_peaks(mountains(), 3, True, "extreme")

    assert found.discriminative.tolist() == [True, False, False, True]
    assert found.complementary.tolist() == [False, False, True, True]


# The map in which they are looked for


def test_a_sure_network_looks_at_its_best_class_an_unsure_one_at_five() -> None:
    maps = one_hot(torch.arange(6) * 150, SIDE**2).float().view(1, 6, SIDE, SIDE)  # class i responds at one place each
    sure = torch.tensor([[50.0, 0, 0, 0, 0, 0]])
    unsure = torch.tensor([[1.0, 0.9, 0.8, 0.7, 0.6, 0.5]])

    seen = [response_map(maps, scores, 0.2)[0].flatten().nonzero().flatten().tolist() for scores in (sure, unsure)]

    assert seen == [[0], [0, 150, 300, 450, 600]]


def test_entropy_is_that_of_the_five_best_as_they_are() -> None:
    # Ten equal classes: five terms of -0.1 log 0.1.
    torch.testing.assert_close(entropy(torch.zeros(1, 10)), torch.tensor([0.5 * math.log(10)]))


# Kernels


def peak(response: float, y: int = 15, x: int = 15) -> Peaks:
    yes = torch.tensor([True])
    return Peaks(torch.tensor([0]), torch.tensor([y]), torch.tensor([x]), torch.tensor([response]), yes, yes)


@pytest.mark.parametrize(("branch", "height"), [("discriminative", 0.5), ("complementary", 2.0)])
def test_a_kernel_is_as_high_and_as_wide_as_equation_6_says(branch: Branch, height: float) -> None:
    found = saliency(peak(0.5), branch, torch.tensor(0.2), 1, paper_kernels=False)

    # Three cells to the right and one down: d^2 = 10; 2 R (31 beta)^2 = 6.2^2 = 38.44.
    assert found[0, 15, 15].item() == pytest.approx(height + 0.09)
    assert found[0, 16, 18].item() == pytest.approx(height * math.exp(-10 / 38.44) + 0.09)


def test_the_printed_kernel_starts_as_the_same_without_the_base() -> None:
    plain, printed = (SparseAttention(SparseConfig(paper_kernels=on)) for on in (False, True))

    for branch in BOTH:
        one, other = (
            saliency(peak(0.5), branch, net.betas[branch], 1, on) for net, on in ((plain, False), (printed, True))
        )
        torch.testing.assert_close(other + 0.09, one)


@pytest.mark.parametrize("paper_kernels", [False, True])
def test_an_image_without_peaks_is_salient_alike_everywhere(paper_kernels: bool) -> None:
    found = saliency(peak(0.5), "discriminative", torch.tensor(0.1), 2, paper_kernels)

    assert found[1].min() == found[1].max() > 0


# The resampler


def test_where_all_is_salient_alike_an_image_stays_as_it_is() -> None:
    attention, images = SparseAttention(SparseConfig()), torch.rand(2, 3, 20, 24)

    torch.testing.assert_close(attention.resample(images, torch.ones(2, SIDE, SIDE)), images, rtol=0, atol=1e-4)


def test_what_is_salient_is_enlarged_and_the_rest_stays_in_the_picture() -> None:
    found = saliency(peak(1.0), "discriminative", torch.tensor(0.09), 1, paper_kernels=False)

    x = SparseAttention(SparseConfig()).grid(found)[0, 0, 15].diff()

    even = 2 / (SIDE - 1)
    # Cells stand closer where the image is enlarged; all of it is still reached, in order.
    assert x[14:16].max() < 0.9 * even < x[[5, -6]].min()
    assert x.min() >= 0


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=5)
def test_two_matrices_do_what_convolutions_over_a_padded_map_do(seed: int) -> None:
    salient = torch.rand(2, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.01
    attention = SparseAttention(SparseConfig()).double()

    torch.testing.assert_close(attention.grid(salient), plain_grid(salient), rtol=1e-5, atol=1e-6)


def test_gradients_reach_pixels_widths_and_class_maps() -> None:
    torch.manual_seed(0)
    attention = SparseAttention(SparseConfig())
    # Smooth images and a single bump: nothing near a kink of the bilinear sampling matters at this step.
    clips = torch.linspace(0, 1, 16).expand(1, 3, 1, 16, 16).clone().requires_grad_()
    maps = mountains()[:1, None, None].expand(1, 1, 3, SIDE, SIDE).clone().requires_grad_()

    new = attention(clips, maps, "all")
    torch.stack(list(new.values())).square().sum().backward()

    assert all(beta.grad is not None and beta.grad != 0 for beta in attention.betas.values())
    for given_ in (clips, maps):
        assert given_.grad is not None
        assert given_.grad.abs().sum() > 0


def test_the_gradient_of_a_width_is_its_difference_quotient() -> None:
    attention = SparseAttention(SparseConfig()).double()
    images = torch.linspace(0, 1, 32, dtype=torch.float64).square().expand(1, 3, 32, 32)
    found = find_peaks(mountains()[:1].double(), 3, True, "all")
    weight = torch.linspace(-1, 1, 32, dtype=torch.float64)

    def total(beta: Tensor) -> Tensor:
        return (attention.resample(images, saliency(found, "complementary", beta, 1, False)) * weight).sum()

    assert torch.autograd.gradcheck(
        total, torch.tensor(0.3, dtype=torch.float64, requires_grad=True), eps=1e-7, atol=1e-3
    )


# Around a network


def test_the_branches_share_one_network() -> None:
    alone, around = (build_model(config, 7) for config in (model(size=64), sparse_model()))

    # One layer over the features of three branches, and two widths.
    added = 3 * around.backbone.channels * 7 + 7 + 2
    assert sum(p.numel() for p in around.parameters()) == sum(p.numel() for p in alone.parameters()) + added


@pytest.mark.parametrize("branches", [("original", "discriminative"), ("original", "complementary"), BOTH, BRANCHES])
def test_each_row_of_table_4_gives_its_branches_and_the_total(branches: Sequence[Branch]) -> None:
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
    alone, around = build_model(model(size=64), 7).eval(), built(sparse_model()).eval()
    around.load_state_dict(alone.state_dict(), strict=False)
    clips = torch.randn(2, 3, 4, 64, 64)

    torch.testing.assert_close(around.scores(clips)[:, 1], alone(clips))


def test_at_first_the_network_learns_alone_then_from_all_peaks_then_from_drawn_ones() -> None:
    config = SparseConfig(alone=0.4, warmup=0.2)

    assert [config.stage(epoch, 10) for epoch in (1, 4, 5, 6, 7, 10)] == ["alone"] * 2 + ["all"] * 2 + ["random"] * 2
    assert SparseConfig(alone=0.99).stage(1, 1) == "random"


def test_while_it_learns_alone_the_rest_has_no_gradient() -> None:
    net = built(sparse_model()).train()
    net.begin(1, 10)

    scores = net(torch.randn(2, 3, 4, 64, 64))
    net.loss(scores, torch.tensor([1, 2])).backward()

    assert scores.shape == (2, 1, 7)
    assert {name.split(".")[0] for name, p in net.named_parameters() if p.grad is None} == {"sparse", "total"}


def test_frames_that_a_backbone_takes_together_are_resampled_alike() -> None:
    attention = SparseAttention(SparseConfig())
    maps = torch.rand(1, 2, 3, 4, 4)
    still = torch.rand(1, 3, 1, 16, 16).expand(1, 3, 10, 16, 16)

    new = attention(still, maps, "extreme")["discriminative"]

    for five in (new[:, :, :5], new[:, :, 5:]):
        torch.testing.assert_close(five, five[:, :, :1].expand_as(five))
    assert not torch.allclose(new[:, :, 0], new[:, :, 5])


@pytest.mark.parametrize("kind", ["mobilenet_v2", "shufflenet_v2", "inception_v3", "resnet_tdn"])
def test_it_goes_around_any_backbone(kind: str) -> None:
    size = 80 if kind == "inception_v3" else 32
    backbone = {"kind": kind} | ({"depth": 50} if kind == "resnet_tdn" else {})
    config = ModelConfig.parse({"frames": 2, "size": size, "backbone": backbone, "sparse": {}})

    net = built(config).eval()

    assert net(torch.randn(1, 3, 2 * config.backbone.frames_per_segment, size, size)).shape == (1, 7)


# Its recipe


def test_the_original_alone_is_no_sparse_attention() -> None:
    assert sparse_model("original").sparse == "none"
    assert architecture_id(sparse_model("original")) == architecture_id(model(size=64))


def test_the_width_of_an_absent_branch_has_no_effect_on_identity() -> None:
    names = {architecture_id(sparse_model("original", "discriminative", beta2=beta)) for beta in (0.3, 0.5)}
    others = {architecture_id(sparse_model("discriminative", "original", beta1=beta)) for beta in (0.09, 0.5)}

    assert len(names) == 1
    assert len(others) == 2


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
def test_what_cannot_be_is_refused(changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        model(sparse=changes)


# Its cost


@pytest.mark.parametrize("branches", [("original", "complementary"), BRANCHES])
def test_multiply_accumulates_and_parameters_are_those_counted(branches: Sequence[Branch]) -> None:
    config = sparse_model(*branches)
    net, total = built(config), cost(config, 7)
    plain = Plain(net.sparse.config)
    net.sparse = plain

    assert total.macs == count_macs(net, torch.randn(1, 3, 4, 64, 64))
    assert total.params == sum(p.numel() for p in net.parameters())


def test_activations_are_about_those_that_autograd_keeps() -> None:
    torch.manual_seed(0)
    config = sparse_model()

    kept = kept_per_clip(built(config), torch.randn(1, 3, 4, 64, 64))

    assert cost(config, 7).activations == pytest.approx(kept, rel=0.1)


def test_it_is_itemised() -> None:
    network, around = cost(model(size=64), 7), cost(sparse_model(), 7)

    rows = {row.what: row.macs for row in around.rows if row.stage < 0}

    # 4 frames; 2 x 2 pixels, 128 channels, 7 classes; 3 convolutions of 61 x 61 over 31 x 31 for each of 2 branches.
    assert rows == {
        "discriminative": network.macs, "complementary": network.macs, "class maps": 4 * 4 * 128 * 7,
        "resampling": 2 * 4 * 3 * 61**2 * 31**2, "total": 3 * 128 * 7,
    }  # fmt: skip
    assert around.macs == network.macs + sum(rows.values())


def test_around_the_t_cnn_it_costs_three_passes_and_little_more() -> None:
    t_cnn = {"frames": 16, "size": 224, "backbone": {"kind": "tcnn"}}
    network, around = (cost(ModelConfig.parse(t_cnn | sparse), 101) for sparse in ({}, {"sparse": {}}))

    items = {row.what: row.macs / 1e9 for row in around.rows if row.stage < 0}

    # The paper prints 52.3, of which it itemises nothing: see README, Decisions.
    assert network.gflops == pytest.approx(15.663, abs=0.0006)
    assert items["discriminative"] == items["complementary"] == network.gflops
    assert items["class maps"] == pytest.approx(16 * 7 * 7 * 512 * 101 / 1e9)
    assert items["resampling"] == pytest.approx(2 * 16 * 3 * 61**2 * 31**2 / 1e9)
    assert around.gflops == pytest.approx(3 * 15.663 + 0.0405 + 0.3433 + 0.0002, abs=0.002)


def test_a_network_whose_features_are_no_averages_has_no_class_maps() -> None:
    with pytest.raises(ValidationError, match="features of a c3d are no averages of maps"):
        ModelConfig.parse({"frames": 16, "size": 112, "backbone": {"kind": "c3d"}, "sparse": {}})


@pytest.mark.parametrize("kind", ["resnet3d", "p3d", "tcnn"])
def test_it_goes_around_networks_of_clips(kind: str) -> None:
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


def test_training_reports_each_branch_and_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    config = trial(3, alone=0.34, warmup=0.34)
    cache = prepare(config.data, tmp_path)
    whole = list(fit(config, cache, tmp_path / "whole"))
    list(itertools.islice(fit(config, cache, tmp_path / "cut"), 2))

    resumed = list(fit(config, cache, tmp_path / "cut"))

    assert {f"top1_{branch}" for branch in BRANCHES} < whole[-1].metrics.keys()
    assert [epoch.metrics for epoch in resumed] == [epoch.metrics for epoch in whole]
    one, other = (torch.load(tmp_path / run / "model.pt", weights_only=True) for run in ("whole", "cut"))
    torch.testing.assert_close(one, other, rtol=0, atol=0)


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

    one, two = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    # The evaluation is shared and summed; the training loss is each worker's own.
    assert [metrics | {"train_loss": 0} for metrics in one] == [metrics | {"train_loss": 0} for metrics in two]


def test_places_in_an_image_are_exact_in_mixed_precision() -> None:
    torch.manual_seed(0)
    net, clips = built(sparse_model()).eval(), torch.randn(1, 3, 4, 64, 64)
    maps = net.class_maps(clips)[1]
    plain = net.sparse(clips, maps, "extreme")

    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = net.sparse(clips, maps, "extreme")

    torch.testing.assert_close(mixed, plain, rtol=0, atol=0)
