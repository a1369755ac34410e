"""Results as Ray Tune reports them."""

from search.tuner.results import EpochResult, FailedResult, HaltResult, StorageResult, parse_result


def test_a_flat_mapping_of_ray_tune_becomes_a_typed_result() -> None:
    flat = {"epoch": 2, "metrics/top1": 0.5, "metrics/loss": 1.5, "seconds": 3.0, "training_iteration": 2, "pid": 7}

    assert parse_result(flat) == EpochResult(epoch=2, metrics={"top1": 0.5, "loss": 1.5}, seconds=3.0)
    assert parse_result({"error": "Traceback", "pid": 7}) == FailedResult("Traceback")
    assert parse_result({"storage": "checkpoint.pt: no space left"}) == StorageResult("checkpoint.pt: no space left")
    assert parse_result({"halt": "checkpoint.pt: no space left", "pid": 7}) == HaltResult(
        "checkpoint.pt: no space left"
    )
