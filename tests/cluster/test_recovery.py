"""Which errors a new process may not raise again."""

import traceback

import pytest
import torch

from cluster.failures import cause_of, classified
from cluster.recovery import ends_process, out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_errors_of_a_gpu_end_the_process(error: Exception) -> None:
    assert ends_process(error)
    assert not out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_lack_of_memory_leaves_the_process_usable(error: Exception) -> None:
    assert out_of_memory(error)
    assert not ends_process(error)


@pytest.mark.parametrize(
    "error",
    [
        FloatingPointError("the loss of epoch 1 is nan"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        ValueError("CUDA error is a word in a user's file"),
        OSError("checkpoint.pt: cannot be written"),
    ],
)
def test_errors_that_any_process_would_raise_do_not(error: Exception) -> None:
    assert not ends_process(error)
    assert not out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 2000000000 bytes"
        ),
        MemoryError(),
    ],
)
def test_a_machine_without_memory_is_no_verdict_on_a_training(error: Exception) -> None:
    assert ends_process(error)
    assert not out_of_memory(error)
    assert classified(error, 0, 300).kind == "lost"
    assert cause_of("".join(traceback.format_exception(error))) == "memory"


def test_an_error_raised_while_one_of_a_gpu_was_handled_ends_the_process() -> None:
    error = ValueError("cannot clean up")
    error.__context__ = torch.AcceleratorError("CUDA error: unspecified launch failure")

    assert ends_process(error)


def test_a_lack_of_memory_after_another_error_of_the_gpu_ends_the_process() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory")
    error.__context__ = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    assert ends_process(error)
    assert not out_of_memory(error)
