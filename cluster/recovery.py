"""Tells errors that end a process from errors that a training would raise again in any process."""

import torch

#: text in the message of an error of CUDA, cuBLAS or cuDNN that torch raises as a plain RuntimeError
GPU_ERRORS = ("CUDA error", "cuDNN error")


def ends_process(error: BaseException) -> bool:
    """Return whether ``error`` came from a GPU, so that only a new process can repeat the training.

    After an error such as an illegal address, every later call of CUDA in the process fails too. After a lack of memory
    the process may still hold memory of the failed training, and other processes share the GPU. An exception that was
    raised while such an error was handled counts as well.
    """
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, torch.AcceleratorError | torch.OutOfMemoryError):
            return True
        if isinstance(cause, RuntimeError) and any(text in str(cause) for text in GPU_ERRORS):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False
