"""Checks of a search that need the list of its clips, but nothing decoded."""

from dataclasses import dataclass

from search.spec.messages import SpecError
from search.spec.schema import Spec
from search.spec.store import frames_seen
from spaces.space import Problem
from vattn.config import TrainConfig, TrialConfig
from vattn.data import DataConfig
from vattn.data.config import StoreConfig
from vattn.data.dataset import Listed
from vattn.data.estimate import Estimate
from vattn.data.summary import Summary
from vattn.errors import UserError
from vattn.training.batches.loader import step_sizes


@dataclass(frozen=True)
class CheckedData:
    """A data set and its clip cache, known before anything is decoded."""

    data: DataConfig
    summary: Summary
    estimate: Estimate
    cache: str
    """folder of the clip cache"""
    chosen: StoreConfig | None
    """the store that was chosen for ``store: auto``"""


def check_data(spec: Spec, files: Listed) -> tuple[Spec, Listed, CheckedData]:
    """Check a search against the clips of its data set, and choose the store where the spec leaves it open.

    Returns the spec and the clips with that store, and what was found. Raises SpecError if nothing can be trained on
    the clips, if there are too few for a step, or if the disk cannot hold the cache.
    """
    example = spec.trial_config(next(spec.space.one_at_a_time())[1])
    models, datas, trains = (
        [getattr(TrialConfig.parse(example.tree() | {part: tree}), part) for _, tree in section.one_at_a_time()]
        for part, section in ((part, spec.space.part(part)) for part in ("model", "data", "train"))
    )
    frames = frames_seen(models, datas)
    try:
        summary = files.summary(flip=any(data.augment.flip for data in datas))
        summary.refuse()
        chosen = None
        if spec.chooses_store:
            files = files.fitted(frames)
            chosen = files.data.store
            spec = spec.stored(chosen)
        files.refuse_if_full(frames)
    except UserError as error:
        raise SpecError([f"{spec.file}: trial.{line}" for line in str(error).splitlines()]) from None
    _check_steps(spec, trains, summary.totals["train"])
    return spec, files, CheckedData(files.data, summary, files.estimate, str(files.cache), chosen)


def _check_steps(spec: Spec, trains: list[TrainConfig], clips: int) -> None:
    """Raise SpecError if there are too few training clips for one step."""
    for train in {train.batch: train for train in trains}.values():
        try:
            step_sizes(clips, train, spec.resources.fewest)
        except UserError as error:
            raise spec.error(Problem(("trial", "train", "batch"), error.rule, str(error.found))) from None
