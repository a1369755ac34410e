"""Tells errors of a GPU, which a new process or more memory avoids, from errors that any process would raise again."""

from collections.abc import Iterator

import torch

#: text in the message of an error of CUDA, cuBLAS or cuDNN that torch raises as a plain RuntimeError
GPU_ERRORS = ("CUDA error", "cuDNN error")
#: text in the message of such an error where it is memory that the GPU lacks
MEMORY_ERRORS = ("out of memory", "ALLOC_FAILED")


def out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` is a lack of GPU memory, and no other error of the GPU.

    It says nothing about the process: once the failed training is forgotten, its memory is free.
    """
    gpu_errors = list(filter(_is_of_gpu, _causes(error)))
    return bool(gpu_errors) and all(map(_is_of_memory, gpu_errors))


def ends_process(error: BaseException) -> bool:
    """Return whether ``error`` came from a GPU, so that only a new process can repeat the training.

    After an error such as an illegal address, every later call of CUDA in the process fails too. An exception that was
    raised while such an error was handled counts as well. A lack of memory does not end the process: `out_of_memory`.
    """
    return any(_is_of_gpu(cause) and not _is_of_memory(cause) for cause in _causes(error))


def _is_of_gpu(error: BaseException) -> bool:
    if isinstance(error, torch.AcceleratorError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in GPU_ERRORS)


def _is_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in MEMORY_ERRORS)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those during which it was raised."""
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        yield cause
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
