"""Tells errors that a new process or more memory avoids from errors that any process would raise again."""

from collections.abc import Iterator

import torch

#: text in the message of an error of CUDA, cuBLAS or cuDNN that torch raises as a plain RuntimeError
GPU_ERRORS = ("CUDA error", "cuDNN error")
#: text in the message of such an error where it is memory that the GPU lacks
MEMORY_ERRORS = ("out of memory", "ALLOC_FAILED")
#: text in the message of an error where the machine, not a GPU, has no memory for a tensor or a thread
HOST_MEMORY_ERRORS = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")


def out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` is a lack of GPU memory, and no other error of the GPU.

    It says nothing about the process: once the failed training is forgotten, its memory is free.
    """
    gpu_errors = list(filter(_is_of_gpu, _causes(error)))
    return bool(gpu_errors) and all(map(_is_of_memory, gpu_errors))


def ends_process(error: BaseException) -> bool:
    """Return whether only a new process can repeat the training in which ``error`` was raised.

    After an error of a GPU such as an illegal address, every later call of CUDA in the process fails too. An exception
    that was raised while such an error was handled counts as well. A lack of GPU memory does not end the process:
    `out_of_memory`. Where the machine has no memory left, that says nothing about the training: another process, at
    another time or on another node, may have it.
    """
    return any(
        (_is_of_gpu(cause) and not _is_of_memory(cause)) or _is_of_host_memory(cause) for cause in _causes(error)
    )


def _is_of_gpu(error: BaseException) -> bool:
    if isinstance(error, torch.AcceleratorError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in GPU_ERRORS)


def _is_of_host_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(text in str(error) for text in HOST_MEMORY_ERRORS)


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
