"""What a training starts from: scratch, mechanisms that are the identity, or the weights of another training."""

from collections import defaultdict
from collections.abc import Callable, Iterable

from torch import nn

from vattn.config import ModelConfig, TrialConfig
from vattn.insert import insert
from vattn.model import VideoModel, build_model
from vattn.weights import State, read_state


def as_identity(model: ModelConfig) -> ModelConfig:
    """Return the same network, of which every mechanism starts as the identity that can."""
    fresh = (m if m.no_identity else m.model_copy(update={"init": "identity"}) for m in model.attention)
    return model.model_copy(update={"attention": tuple(fresh)})


def start(config: TrialConfig) -> VideoModel:
    """Return the network of a trial as its training starts, by ``train.init`` and torch's seed.

    From a file come first the layers of the network without mechanisms, so that a mechanism that takes the place of a
    layer adopts what that has learnt; then the mechanisms. A layer comes, and a mechanism as a whole, if the file has
    all of its values in the same shapes; else it is a fresh one. Raises ValueError where the file is no state dict, or
    has nothing of this network.
    """
    classes, file = config.data.num_classes(), config.train.weights
    if config.train.init == "scratch":
        return build_model(config.model, classes)
    model = as_identity(config.model)
    if file is None:
        return build_model(model, classes)
    try:
        state = read_state(file)
    except ValueError as error:
        raise ValueError(f"train.init: {error}; write scratch, or the path of a state dict") from error
    net = build_model(model.model_copy(update={"attention": ()}), classes)
    known = {name for name, _ in net.named_modules()}
    taken = _take(net, state, lambda name: name.rpartition(".")[0])
    insert(net.backbone, model)
    added = [name for name in net.state_dict() if name.rpartition(".")[0] not in known]
    taken += _take(net, state, lambda name: _outermost(name, known), added)
    if not taken:
        raise ValueError(f"train.init: {file} has no layer of this network; name weights of the same backbone")
    return net


def _outermost(name: str, known: set[str]) -> str:
    """Return the path of the outermost module on the way to ``name`` that is not ``known``."""
    parts = name.split(".")
    return next(path for n in range(1, len(parts)) if (path := ".".join(parts[:n])) not in known)


def _take(net: nn.Module, state: State, part_of: Callable[[str], str], names: Iterable[str] | None = None) -> int:
    """Load into ``net`` each part, as ``part_of`` groups ``names``, that ``state`` has whole; return how many it has.

    Weights from before batch norm counted its batches lack nothing.
    """
    own = net.state_dict()
    parts: dict[str, list[str]] = defaultdict(list)
    for name in own if names is None else names:
        parts[part_of(name)].append(name)
    whole = [{n: state.get(n, own[n]) for n in names} for names in parts.values() if _has(state, own, names)]
    for values in whole:
        net.load_state_dict(values, strict=False)
    return len(whole)


def _has(state: State, own: State, names: list[str]) -> bool:
    needed = [name for name in names if not name.endswith("num_batches_tracked")]
    return all(name in state and state[name].shape == own[name].shape for name in needed)
