"""Memory that a training takes on a GPU, predicted from its config, on any machine.

One step of the training and one of its evaluation run on torch's meta device, which computes shapes and no values. All
storages that they create are counted while they exist. So the prediction follows the network, mixed precision,
recomputation and whatever a mechanism keeps, without a formula of its own for each. What is outside of torch's
storages is added as constants.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from vattn.config import ModelConfig, TrialConfig
from vattn.cost import cost
from vattn.model import VideoModel, network_on_meta
from vattn.training.distill import sees_the_same
from vattn.training.recipe.norms import prepare
from vattn.training.recompute import recompute_blocks, wrap_blocks

#: Bytes of a process's CUDA context with the kernels of torch, cuBLAS and cuDNN.
CONTEXT = 500_000_000
#: Bytes of the workspaces of cuBLAS and cuDNN.
WORKSPACE = 256_000_000
#: Share of the activations that torch's allocator loses to rounding and gaps.
GAPS = 0.03
#: Batches of uint8 images on the device: in use, waiting, and being copied (`vattn.training.batches.feed`).
STAGED = 3


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of one worker of a training at its peak, in bytes, by what it is needed for."""

    context: int
    """CUDA's own"""
    weights: int
    """parameters and buffers, of a teacher too"""
    gradients: int
    """also the buffers in which several workers exchange them"""
    optimizer: int
    """momentum of SGD, or the two moments of AdamW, and the moving average of the weights (``train.ema``)"""
    activations: int
    """what the backward pass needs, and temporary results, at the peak of a step or of the evaluation"""
    inputs: int
    """batches of images"""
    workspace: int
    """of cuBLAS and cuDNN, and what the allocator cannot use"""

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return sum(getattr(self, field.name) for field in fields(self))


def training_memory(config: TrialConfig, classes: int, workers: int = 1) -> Memory:
    """Predict the memory of one worker of a training on a GPU.

    Args:
        config: the data config gives the views of an evaluation, the others the network and the batch.
        classes: the number of labels.
        workers: the number of workers, which share each batch.
    """
    model, train, views = config.model, config.train, config.data.views
    share = -(-train.batch // workers)
    parts = train.accumulate
    micro = -(-share // parts)
    branches = 1 if model.sparse == "none" else len(model.sparse.branches)
    # As many clips as their views make a batch, but at least one with all of its views (`eval_batches`).
    evaluated = max(share // (views.clips * views.crops), 1) * views.clips * views.crops
    step, evaluation, weights, trained, averaged = _traced(
        model.model_copy(update={"sparse": "none"}), classes, micro * branches, evaluated * branches,
        views.crop(model.size), train.amp, train.recompute == "blocks", parts > 1, train.norm, train.freeze,
    )  # fmt: skip
    # The teacher's forward pass comes before the student's.
    taught, of_teacher = _of_teacher(config, classes, micro)
    activations = max(step + micro * _sparse_bytes(model, classes), evaluation, taught)
    pixels = _pixels(model)
    if train.distill != "none" and not sees_the_same(config):
        pixels += _pixels(train.distill.teacher.model)
    return Memory(
        context=CONTEXT,
        weights=weights + of_teacher,
        gradients=trained,
        optimizer=trained * train.optimizer.moments + (0 if train.ema == "none" else averaged),
        activations=activations,
        inputs=STAGED * share * pixels,
        workspace=WORKSPACE + round(GAPS * activations),
    )


def _pixels(model: ModelConfig) -> int:
    """Return the number of values of a stored clip: 3 channels, also those of optical flow."""
    return 3 * model.frames * model.backbone.frames_per_segment * model.size**2


def _of_teacher(config: TrialConfig, classes: int, clips: int) -> tuple[int, int]:
    """Return the bytes that the forward pass of a teacher takes for ``clips`` clips, and those of its weights."""
    if config.train.distill == "none":
        return 0, 0
    model = config.train.distill.teacher.model
    branches = 1 if model.sparse == "none" else len(model.sparse.branches)
    return _evaluated(model.model_copy(update={"sparse": "none"}), classes, clips * branches, config.train.amp)


@lru_cache(maxsize=4096)
def _evaluated(model: ModelConfig, classes: int, clips: int, amp: str) -> tuple[int, int]:
    """Return the bytes that a forward pass in evaluation mode takes without weights, and those of the weights."""
    net = network_on_meta(model, classes)
    return evaluation_peak(net, model, clips, amp), sum(map(_bytes, [*net.parameters(), *net.buffers()]))


def render(config: TrialConfig, classes: int) -> str:
    """Return the predicted memory in words, for `vattn cost`."""
    memory = training_memory(config, classes)
    parts = ", ".join(f"{field.name} {getattr(memory, field.name) / 1e9:.2f}" for field in fields(memory))
    return (
        f"GPU memory in training, batch {config.train.batch}: {memory.total / 1e9:.2f} GB predicted, at its peak\n"
        f"  ({parts})"
    )


def render_size(model: ModelConfig, classes: int) -> str:
    """Return the size of a model's weights in words, for `vattn cost`."""
    net = network_on_meta(model, classes)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    buffers = sum(buffer.numel() for buffer in net.buffers() if buffer.is_floating_point())
    return (
        f"Model size (size_mb): {4 * (parameters + buffers) / 1e6:.4g} MB, 4 bytes for each of {parameters:,} "
        f"parameters\n  and {buffers:,} values of buffers, such as the statistics of batch norm"
    )


def _sparse_bytes(model: ModelConfig, classes: int) -> int:
    """Return the bytes of a clip that sparse attention keeps besides the network's, which the closed form counts.

    Its regions depend on the pixels, so the meta device cannot trace it.
    """
    return 4 * sum(row.activations for row in cost(model, classes).rows if row.stage == -1 and not _is_branch(row.what))


def _is_branch(what: str) -> bool:
    return what in ("discriminative", "complementary")


@lru_cache(maxsize=4096)
def _traced(
    model: ModelConfig, classes: int, clips: int, evaluated: int, size: int, amp: str, recompute: bool,
    accumulates: bool, norm: str, freeze: tuple[int, ...],
) -> tuple[int, int, int, int, int]:  # fmt: skip
    """Return bytes: of one step without weights, of one evaluation without weights, of weights, of parameters that
    train, and of the moving average of these and of running statistics.

    Args:
        model: a network without sparse attention.
        classes: the number of labels.
        clips: clips of a step, for one backward pass.
        evaluated: views of clips in one batch of the evaluation.
        size: side of their crops, pixels.
        amp: ``train.amp``.
        recompute: whether blocks compute their activations again.
        accumulates: whether a step has several backward passes.
        norm: ``train.norm``.
        freeze: ``train.freeze``.
    """
    net = network_on_meta(model, classes)
    prepare(net, norm, freeze, workers=1)
    if recompute:
        recompute_on_meta(net, amp)
    trained = sum(map(_bytes, _trained(net)))
    weights = sum(map(_bytes, [*net.parameters(), *net.buffers()]))
    statistics = sum(_bytes(buffer) for buffer in net.buffers() if buffer.is_floating_point())
    return (
        step_peak(net, model, clips, amp, accumulates),
        evaluation_peak(net, model.model_copy(update={"size": size}), evaluated, amp),
        weights,
        trained,
        trained + statistics,
    )


def _trained(net: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in net.parameters() if parameter.requires_grad]


def recompute_on_meta(net: VideoModel, amp: str) -> None:
    """Let blocks compute their activations again, in the precision of the forward pass, which autograd leaves."""
    wrap_blocks(net, lambda _, forward: lowered(amp)(forward))
    recompute_blocks(net)


def has_batch_norm(model: ModelConfig, classes: int) -> bool:
    """Return whether the result of a step depends on how its clips are divided (``train.accumulate``)."""
    return any(isinstance(module, _BatchNorm) for module in network_on_meta(model, classes).modules())


def step_peak(
    net: VideoModel, model: ModelConfig, clips: int, amp: str, accumulates: bool = False, device: str = "meta"
) -> int:
    """Return the bytes that a forward and a backward pass take at their peak, besides weights and all gradients.

    A step begins without gradients, which the backward pass creates while it frees the activations. If it accumulates,
    they exist from its second part on.
    """
    net.train()
    gradients = sum(map(_bytes, _trained(net)))
    with lowered(amp), Peak() as peak:
        for parameter in _trained(net) if accumulates else ():
            parameter.grad = torch.empty_like(parameter)
        images = empty_clips(model, clips, device)
        loss = net.trial_loss(images)
        loss.backward()
        del loss, images
    net.zero_grad(set_to_none=True)
    return peak.most - gradients


def evaluation_peak(net: VideoModel, model: ModelConfig, clips: int, amp: str, device: str = "meta") -> int:
    """Return the bytes that the evaluation of one batch of ``clips`` views takes at its peak, besides weights."""
    net.eval()
    with torch.inference_mode(), lowered(amp), Peak() as peak:
        net.scores(empty_clips(model, clips, device))
    return peak.most


def empty_clips(model: ModelConfig, clips: int, device: str | torch.device) -> Float[Tensor, "n colours t h w"]:
    """Return clips without values as the network of ``model`` takes them, in the loader's memory format."""
    frames = model.frames * model.backbone.frames_per_segment
    # In memory: N T H W C.
    return torch.empty(clips, frames, model.size, model.size, model.backbone.input_channels, device=device).permute(
        0, 4, 1, 2, 3
    )


class Peak(TorchDispatchMode):
    """Counts the bytes of all storages that operators create, each until it is freed; ``most`` is the highest sum."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.most = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage())._cdata not in given:
                self._add(storage)
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._known:
            self._known.add(storage)
            self.live += (size := storage.nbytes())
            self.most = max(self.most, self.live)
            weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.live -= size


#: Functions that CUDA's autocast computes in the lower precision, and those that it computes in float32, as in torch's
#: documentation of automatic mixed precision.
LOWERED = frozenset({
    "__matmul__", "__rmatmul__", "addbmm", "addmm", "addmv", "addr", "baddbmm", "bmm", "conv1d", "conv2d", "conv3d",
    "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear", "matmul", "mm", "mv", "prelu",
})  # fmt: skip
RAISED = frozenset({
    "__pow__", "__rpow__", "__rtruediv__", "acos", "asin", "binary_cross_entropy_with_logits", "cdist", "cosh",
    "cosine_similarity", "cross_entropy", "cumprod", "cumsum", "dist", "exp", "expm1", "group_norm", "kl_div",
    "l1_loss", "layer_norm", "log", "log10", "log1p", "log2", "log_softmax", "mse_loss", "nll_loss", "norm",
    "normalize", "pow", "prod", "reciprocal", "rsqrt", "smooth_l1_loss", "softmax", "softplus", "sum", "tan",
})  # fmt: skip


@contextmanager
def lowered(amp: str) -> Iterator[None]:
    """Compute in the precision of ``train.amp`` on the meta device, as CUDA's autocast would."""
    with _Precision({"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]):
        yield


class _Precision(TorchFunctionMode):
    """Casts as CUDA's autocast does, and attends as its fused kernel does, on the meta device, which has neither."""

    def __init__(self, dtype: torch.dtype | None) -> None:
        super().__init__()
        self._dtype = dtype
        #: as in autocast, parameters in the lower precision; they exist until the end of the context
        self._lowered: dict[Tensor, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        is_attention = name == "scaled_dot_product_attention"
        if self._dtype and (is_attention or name in LOWERED):
            args, kwargs = tree_map(self._lower, (args, kwargs))
        elif self._dtype and name in RAISED:
            args, kwargs = tree_map(lambda x: _cast(x, torch.float32), (args, kwargs))
        return _Attention.apply(*args[:3]) if is_attention else func(*args, **kwargs)

    def _lower(self, value: Any) -> Any:
        assert self._dtype is not None
        if not isinstance(value, nn.Parameter):
            return _cast(value, self._dtype)
        if value not in self._lowered:
            self._lowered[value] = _cast(value, self._dtype)
        return self._lowered[value]


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


class _Attention(torch.autograd.Function):
    """The memory of a fused attention: it keeps its inputs, its output and a number for each query, and no weights."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, output, output[..., 0].float())
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return tuple(map(torch.empty_like, ctx.saved_tensors[:3]))


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
