"""Which errors a new process may not raise again."""

import pytest
import torch

from cluster.recovery import ends_process


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_errors_of_a_gpu_end_the_process(error: Exception) -> None:
    assert ends_process(error)


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


def test_an_error_raised_while_one_of_a_gpu_was_handled_ends_the_process() -> None:
    error = ValueError("cannot clean up")
    error.__context__ = torch.AcceleratorError("CUDA error: unspecified launch failure")

    assert ends_process(error)
