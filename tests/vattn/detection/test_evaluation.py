import numpy as np
import pytest

from vattn.detection.evaluation import Detections, Instances, evaluate, proposal_recall


def table(kind, *rows):
    """Return rows (video, start, end, label[, score]) as columns."""
    return kind(*np.array(rows, np.float64).reshape(-1, len(kind._fields)).T)


TRUTH = table(Instances, (0, 0, 10, 1), (0, 20, 30, 1), (1, 5, 15, 1))


@pytest.mark.parametrize("metric", ["thumos14", "activitynet"])
def test_perfect_detections_have_an_average_precision_of_one(metric) -> None:
    found = table(Detections, *((v, s, e, c, 0.9) for v, s, e, c in zip(*TRUTH, strict=True)))

    np.testing.assert_allclose(evaluate(TRUTH, found, 1, metric=metric).map, 1)


def test_a_detector_that_finds_nothing_has_zero() -> None:
    assert evaluate(TRUTH, table(Detections), 1).map.tolist() == [0] * 5


def test_the_longest_segment_alone_matches_what_fills_that_much_of_it() -> None:
    # One detection of the whole 30 s of video 0, one of the 15 s of video 1. In video 0 each instance has an IoU of
    # 1/3 and one of them is matched below that; in video 1 the IoU is 2/3.
    found = table(Detections, (0, 0, 30, 1, 0.9), (1, 0, 15, 1, 0.8))

    result = evaluate(TRUTH, found, 1, (0.1, 0.5))

    # At 0.1 both are right: (1 + 1) / 3. At 0.5 the second of two is: (1/2) / 3.
    np.testing.assert_allclose(result.map, [2 / 3, 1 / 6])


def test_official_precision_is_not_interpolated() -> None:
    # False, then right: precision 1/2 at the only match.
    found = table(Detections, (0, 50, 60, 1, 0.9), (0, 0, 10, 1, 0.8), (0, 20, 30, 1, 0.7), (1, 5, 15, 1, 0.6))

    official, other = (evaluate(TRUTH, found, 1, (0.5,), metric).map[0] for metric in ("thumos14", "activitynet"))

    assert official == pytest.approx((1 / 2 + 2 / 3 + 3 / 4) / 3)
    assert other == pytest.approx(3 / 4)


def test_at_the_threshold_only_activitynets_rule_matches() -> None:
    truth, found = table(Instances, (0, 0, 10, 1)), table(Detections, (0, 0, 5, 1, 1.0))

    official, other = (evaluate(truth, found, 1, (0.5,), metric).map[0] for metric in ("thumos14", "activitynet"))

    assert (official, other) == (0, 1)


def test_the_official_rule_takes_the_largest_overlap_and_not_the_best_score() -> None:
    truth = table(Instances, (0, 0, 10, 1))
    found = table(Detections, (0, 0, 8, 1, 0.9), (0, 0, 10, 1, 0.8))

    # The second is right, and the first false.
    assert evaluate(truth, found, 1, (0.5,)).map[0] == pytest.approx(1 / 2)
    assert evaluate(truth, found, 1, (0.5,), "activitynet").map[0] == pytest.approx(1)


def test_a_detection_that_touches_an_ambiguous_segment_does_not_count() -> None:
    truth = table(Instances, (0, 0, 10, 1), (0, 19, 25, 9))
    found = table(Detections, (0, 18, 20, 1, 0.9), (0, 0, 10, 1, 0.8))

    assert evaluate(truth, found, 1, (0.5,), ambiguous=9).map[0] == 1
    assert evaluate(truth, found, 1, (0.5,)).map[0] == pytest.approx(1 / 2)


def test_detections_in_a_video_without_instances_are_false() -> None:
    truth = table(Instances, (0, 0, 10, 1))
    found = table(Detections, (7, 0, 10, 1, 0.9), (0, 0, 10, 1, 0.8))

    assert evaluate(truth, found, 1, (0.5,)).map[0] == pytest.approx(1 / 2)


def test_a_class_without_instances_has_no_part_in_the_mean() -> None:
    found = table(Detections, (0, 0, 10, 2, 0.9))

    result = evaluate(TRUTH, found, 2, (0.5,))

    assert np.isnan(result.ap[0, 1])
    assert result.map[0] == 0


def test_recall_of_proposals_counts_the_best_ones_of_each_video() -> None:
    proposals = table(Detections, (0, 40, 50, 1, 0.9), (0, 0, 10, 1, 0.8), (1, 5, 15, 1, 0.1))

    assert proposal_recall(TRUTH, proposals, (0.5,), most=2).tolist() == pytest.approx([2 / 3])
    assert proposal_recall(TRUTH, proposals, (0.5,), most=1).tolist() == pytest.approx([1 / 3])


@pytest.mark.medium
def test_tens_of_thousands_of_detections_are_evaluated() -> None:
    rng = np.random.default_rng(0)
    start, label = rng.uniform(0, 200, 80_000), rng.integers(1, 21, 80_000)
    found = Detections(
        rng.integers(0, 200, 80_000).astype(float), start, start + 5, label.astype(float), rng.random(80_000)
    )
    truth = Instances(*(column[:3000] for column in found[:4]))

    result = evaluate(truth, found, 20)

    assert (result.recall == 1).all()
