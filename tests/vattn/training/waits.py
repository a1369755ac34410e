"""Finds operations for which the host waits for an accelerator."""

import traceback
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

#: Operations whose result, or the size of it, the host reads.
READS = {
    "_local_scalar_dense", "nonzero", "masked_select", "bincount", "equal", "is_nonzero", "unique_consecutive",
    "unique_dim", "_unique", "_unique2", "repeat_interleave",
}  # fmt: skip


class WaitError(Exception):
    """The host waits for the accelerator."""


class NoWaits(TorchDispatchMode):
    """Raise WaitError where the host waits for a device, if ``armed``.

    Tensors of the meta device, or fake tensors of a GPU, stand for those of the accelerator. The host waits to read a
    value (``item``), to learn the size of a result (a boolean index), and for a copy that is not ``non_blocking``.
    """

    def __init__(self, armed: bool = True) -> None:
        super().__init__()
        self.armed = armed

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.armed and self._waits(func._schema.name.removeprefix("aten::"), args, kwargs):
            here = [f"{frame.name} in {frame.filename}:{frame.lineno}" for frame in traceback.extract_stack()]
            raise WaitError(f"{func}, from {[place for place in here if '/vattn/' in place][-3:]}")
        if func._schema.name == "aten::_fused_sgd_":
            return None  # torch has no fake of it
        return func(*args, **kwargs)

    @staticmethod
    def _waits(name: str, args: Any, kwargs: Any) -> bool:
        tensors = [arg for arg in args if isinstance(arg, Tensor)]
        if name in (*READS, "lift_fresh"):  # the latter is torch.tensor with a device
            return any(tensor.device.type != "cpu" for tensor in tensors)
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            indices, device = [i for i in args[1] if i is not None], args[0].device
            # The number of true values is read, and an index on the CPU is copied.
            return device.type != "cpu" and any(i.dtype == torch.bool or i.device != device for i in indices)
        if name == "_to_copy":
            target = torch.device(kwargs.get("device") or args[0].device)
            return target.type != args[0].device.type and not kwargs.get("non_blocking")
        if name == "copy_" and isinstance(args[1], Tensor):
            blocking = not (args[2] if len(args) > 2 else kwargs.get("non_blocking"))
            return args[0].device.type != args[1].device.type and blocking
        return False
