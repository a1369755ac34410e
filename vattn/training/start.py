"""Initial networks of a training: from scratch, with identity mechanisms, or from the weights of another training."""

from collections import defaultdict
from collections.abc import Callable, Iterable

from torch import nn

from vattn.config import ModelConfig, TrialConfig
from vattn.convert import Adopted, adopt
from vattn.errors import UserError
from vattn.insert import insert
from vattn.model import VideoModel, build_model, network_on_meta, use_channels_last
from vattn.weights import State, Taken, read_checkpoint
from vattn.weights.families import recognise
from vattn.weights.state import first_of, is_weight

#: Least share of the tensors of a network without mechanisms and classifier that a file of weights must have.
SHARE = 0.9


def as_identity(model: ModelConfig) -> ModelConfig:
    """Return the same network, in which every mechanism that can starts as the identity."""
    attention = (m if m.no_identity else m.model_copy(update={"init": "identity"}) for m in model.attention)
    return model.model_copy(update={"attention": tuple(attention)})


def start(config: TrialConfig) -> VideoModel:
    """Return the initial network of a trial, which depends on ``train.init`` and torch's random state.

    A state dict is loaded in two steps. First come the layers of the network without mechanisms, so that a mechanism
    that replaces a layer adopts its trained weights. Then come the mechanisms. A layer, and a mechanism as a whole, is
    loaded if the state dict has all of its entries in the same shapes. Otherwise it keeps its initial weights.

    Published weights must have `SHARE` of the tensors of the network without mechanisms and classifier. Weights of a
    training here may be those of a smaller or a larger network: `SHARE` of the smaller one's must match.

    Raises:
        UserError: the file holds no state dict, or too little of it matches this network.
    """
    return start_and_report(config)[0]


def start_and_report(config: TrialConfig) -> tuple[VideoModel, Taken | None]:
    """Return what `start` returns, and what was taken from the file of ``train.init``; None if there is no file."""
    classes, file = config.data.num_classes(), config.train.weights
    if config.train.init == "scratch":
        return build_model(config.model, classes), None
    model = as_identity(config.model)
    if file is None:
        return build_model(model, classes), None
    whole = network_on_meta(model, classes).state_dict()
    try:
        adopted = adopt(recognise(read_checkpoint(file)), model, whole)
    except UserError as error:
        raise UserError(str(error), path="train.init", way_out="write scratch, or the path of a state dict") from error
    state = adopted.state
    net = build_model(model.model_copy(update={"attention": ()}), classes)
    known, plain = {name for name, _ in net.named_modules()}, tuple(net.state_dict())
    loaded = _load_parts(net, state, lambda name: name.rpartition(".")[0])
    insert(net.backbone, model)
    added = [name for name in net.state_dict() if name.rpartition(".")[0] not in known]
    loaded |= _load_parts(net, state, lambda name: _outermost(name, known), added)
    _check_share(adopted, [name for name in plain if name in net.state_dict()], loaded)
    use_channels_last(net)
    return net, adopted.taken(loaded, net.state_dict())


def _check_share(adopted: Adopted, plain: list[str], loaded: set[str]) -> None:
    """Raise UserError if too little was loaded; ``plain`` are the names of the network without mechanisms."""
    file, family = adopted.recognised.checkpoint.file, adopted.recognised.family
    own = {name for name in plain if _is_base(name)}
    in_file = {name for name in adopted.state if _is_base(name)}
    needed = min(len(own), len(in_file)) if family.own else len(own)
    matching = len(own & loaded)
    if not matching:
        raise UserError(
            f"{file} has no layer of this network", path="train.init", way_out="name weights of the same backbone",
            found=family.name,
        )  # fmt: skip
    if matching < SHARE * needed:
        missing = sorted(own - loaded)
        raise UserError(
            f"{file} has {matching} of {needed} tensors of the backbone, and must have {SHARE:.0%}; it lacks whole "
            f"layers with {first_of(missing)}",
            path="train.init",
            way_out="name weights of the same backbone",
            found=family.name,
        )


def _is_base(name: str) -> bool:
    """Return whether a name is that of a tensor of the network without mechanisms and classifier."""
    return name.startswith("backbone.") and ".at." not in name and ".module." not in name and is_weight(name)


def _outermost(name: str, known: set[str]) -> str:
    """Return the path of the outermost module that contains ``name`` and is not ``known``."""
    parts = name.split(".")
    return next(path for n in range(1, len(parts)) if (path := ".".join(parts[:n])) not in known)


def _load_parts(
    net: nn.Module, state: State, part_of: Callable[[str], str], names: Iterable[str] | None = None
) -> set[str]:
    """Load into ``net`` the parts that ``state`` has completely, and return the names of their entries.

    ``part_of`` gives the part of a name. ``names`` are the names to load; None stands for all names of ``net``. A
    missing number of batches is ignored (see `is_weight`).
    """
    own = net.state_dict()
    parts: dict[str, list[str]] = defaultdict(list)
    for name in own if names is None else names:
        parts[part_of(name)].append(name)
    complete = [{n: state.get(n, own[n]) for n in part} for part in parts.values() if _has(state, own, part)]
    for values in complete:
        net.load_state_dict(values, strict=False)
    return {name for values in complete for name in values if name in state}


def _has(state: State, own: State, names: list[str]) -> bool:
    """Return whether ``state`` has all of ``names``, in the shapes of ``own``."""
    needed = [name for name in names if is_weight(name)]
    return all(name in state and state[name].shape == own[name].shape for name in needed)
