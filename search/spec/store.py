"""How the clip cache stores frames, where a file leaves it open: ``store: auto`` and ``store: {size: auto}``.

The size follows from the models and is filled in when a file is read. The frames, codec and quality of ``store: auto``
depend on the disk too, and are chosen where the clips are listed.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from spaces.space import Problem, Space, SpaceError, Tree
from vattn.config import ModelConfig, TrialConfig
from vattn.data import DataConfig, listed
from vattn.data.config import Progress
from vattn.data.dataset import Listed
from vattn.errors import UserError

#: Largest model.size that is assumed where none is given, pixels.
_ASSUMED = 70
#: Ways of sampling that need no successive frames.
_SPARSE = ("segments", "uniform")


def with_size(trial: Tree) -> tuple[Tree, bool]:
    """Return a trial section whose store has a size, and whether the rest of its store is to be chosen (``auto``)."""
    data = trial.get("data")
    store = data.get("store") if isinstance(data, Mapping) else None
    auto = store == "auto"
    if not auto and not (isinstance(store, Mapping) and store.get("size") == "auto"):
        return trial, False
    sized = ({} if auto else dict(store)) | {"size": _needed_size(trial)}
    return trial | {"data": dict(data) | {"store": sized}}, auto


def _needed_size(trial: Tree) -> int:
    """Return the size that the largest crop of the trials needs, in training or evaluation, an even number."""
    data = trial.get("data")
    views = data.get("views") if isinstance(data, Mapping) else None
    try:
        space = Space({"model": trial.get("model"), "views": views})
        models, asked = ([tree for _, tree in space.part(part).one_at_a_time()] for part in ("model", "views"))
        sizes = [tree.get("size") for tree in models if isinstance(tree, Mapping)]
        sizes += [tree.get(key) for tree in asked if isinstance(tree, Mapping) for key in ("size", "short")]
    except SpaceError:
        sizes = []
    # Where a size is missing or no number, the check of the model section says so.
    return _stored_size(max((size for size in sizes if isinstance(size, int)), default=_ASSUMED))


def _stored_size(crop: int) -> int:
    """Return the shorter side of stored frames for a crop: 8/7 of it as papers crop 224 of 256 pixels, and even."""
    return max(2 * -(-4 * crop // 7), 8)


def too_small(datas: Iterable[DataConfig], models: Iterable[ModelConfig]) -> Problem | None:
    """Return the problem of a store whose frames are smaller than the crop of one of the models.

    The configs of the data differ in parts that are searched only, and so have one store.
    """
    datas, largest = list(datas), max((model.size for model in models), default=0)
    option, needed = "model.size", largest
    for data in datas:
        if data.views.needs(largest) > needed:
            option = "views.size" if data.views.short == "auto" else "views.short"
            needed = data.views.needs(largest)
    if needed <= datas[0].store.size:
        return None
    rule = f"must be at least {option}, {needed}, as crops are not enlarged; write {_stored_size(needed)} or auto"
    return Problem(("data", "store", "size"), rule, str(datas[0].store.size))


def check_size(config: TrialConfig, file: Path) -> None:
    """Raise UserError if stored frames are smaller than the crop of a model."""
    if problem := too_small([config.data], [config.model]):
        raise UserError(f"{file}: {problem}")


def with_chosen_store(
    config: TrialConfig, output: Path, progress: Progress | None = None, test: bool = True
) -> tuple[TrialConfig, list[Listed]]:
    """Return a config with ``data.store: auto`` decided, and the clips of each of its splits, stored so.

    ``output`` is the folder of its training, ``progress`` and ``test`` are those of `vattn.data.listed`.
    """
    files = [listed(data, output, progress, test) for data in config.data.each_split()]
    store = files[0].fitted(frames_seen([config.model], [config.data])).data.store
    chosen = config.model_copy(update={"data": config.data.model_copy(update={"store": store})})
    return chosen, [each.stored(store) for each in files]


def frames_seen(models: Iterable[ModelConfig], datas: Iterable[DataConfig]) -> int | None:
    """Return the number of frames of a clip that the networks see; None if one of them needs successive frames."""
    models = list(models)
    sparse = all(data.sampling.kind in _SPARSE and data.modality == "rgb" and not data.is_untrimmed for data in datas)
    if not sparse or any(model.backbone.frames_per_segment > 1 for model in models):
        return None
    return max(model.frames for model in models)
