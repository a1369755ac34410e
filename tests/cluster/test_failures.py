"""The failure of a worker is final, or a new process may not have it."""

import pickle

import pytest
import torch

from cluster.devices import GpuError
from cluster.failures import WorkerError, cause_of, classified, final_result
from vattn.errors import StorageError, UserError

TIMED_OUT = "[third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 300000ms for recv operation"
CLOSED = "[third_party/gloo/gloo/transport/tcp/pair.cc:537] Connection closed by peer [10.0.0.2]:1234"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ZeroDivisionError("division by zero"), "final"),
        (RuntimeError("shapes do not match"), "final"),
        (UserError("has no layer of this network", path="train.init"), "user"),
        (FloatingPointError("the training loss is nan in epoch 1"), "final"),
        (StorageError("checkpoint.pt: cannot be written"), "storage"),
        (GpuError("node 10.0.0.2: torch finds no GPU"), "halt"),
        (RuntimeError(CLOSED), "lost"),
        (RuntimeError(TIMED_OUT), "hang"),
        (torch.distributed.DistBackendError("NCCL error: remote process exited"), "lost"),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), "lost"),
        (torch.OutOfMemoryError("CUDA out of memory"), "memory"),
    ],
)
def test_an_error_is_classified_by_its_cause(error: Exception, kind: str) -> None:
    failure = pickle.loads(pickle.dumps(classified(error, 1, 300)))

    assert failure.kind == kind
    assert str(error) in str(failure)


@pytest.mark.parametrize("error", [UserError("is wrong", path="train.init"), FloatingPointError("the loss is nan")])
def test_an_error_for_the_user_has_no_traceback(error: Exception) -> None:
    assert classified(error, 0, 300).message == str(error)


def test_a_hang_is_named_with_the_time_that_a_worker_waited() -> None:
    assert str(classified(RuntimeError(TIMED_OUT), 1, 300)).startswith(
        "worker 1 waited 300 s for another worker, which hangs or is far slower; the training is not tried again"
    )


def test_the_cause_comes_before_what_it_led_to() -> None:
    lost, hang, final = (WorkerError(kind, kind) for kind in ("lost", "hang", "final"))
    died = RuntimeError("the worker's process has died")

    assert final_result([lost, hang, final]) == {"error": "final"}
    assert final_result([lost, final, WorkerError("user", "is wrong")]) == {"error": "is wrong", "user": True}
    assert final_result([lost, hang]) == {"error": "hang"}
    assert final_result([WorkerError("storage", "disk full"), final]) == {"storage": "disk full"}
    assert final_result([lost, died]) == {}
    assert final_result([lost, WorkerError("memory", "too little")]) == {"memory": "too little"}


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        ("The actor died because its node has died. Node Id: 1f", "node"),
        (
            "the actor's node was terminated unexpectedly: health check failed due to missing too many heartbeats",
            "node",
        ),
        ("The actor died: the node was preempted", "node"),
        ("Task was killed due to the node running low on memory.", "memory"),
        ("The actor died unexpectedly before finishing this task: connection error code 2. End of file.", ""),
        ("its process died", ""),
    ],
)
def test_the_end_of_a_process_is_told_by_the_words_of_ray(error: str, cause: str) -> None:
    assert cause_of(error) == cause
