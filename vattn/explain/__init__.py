"""Show what a trained model responds to in one video, as pictures (the command ``vattn explain``).

* ``frames.png``: original, discriminative and complementary frames, where the model has sparse attention (Zhou, Li,
  Wang and Li, "Integrating Temporal and Spatial Attention for Video Action Recognition", Security and Communication
  Networks, 2022, Figure 2);
* ``gradcam.png``: Grad-CAM of layers, as in Figure 4 of M2A (Gebotys, Wong and Clausi, "M2A: Motion Aware Attention for
  Accurate Video Action Recognition", 2021, arXiv:2111.09976);
* ``tam-PLACE.png``: the kernels and the importance of a TAM, as in Figures 4 to 8 of TANet (Liu, Wang, Wu, Qian and Lu,
  "TAM: Temporal Adaptive Module for Video Recognition", ICCV 2021, arXiv:2005.06803);
* ``sta-PLACE.png``: the weights of frames and channels of an STA, as in Figure 1 of its paper (Li, Liu, Zhang, Zhang,
  Song and Sebe, "Spatio-Temporal Attention Networks for Action Recognition and Detection", IEEE Transactions on
  Multimedia, 2020);
* ``weights.mp4``: the frames with Grad-CAM of the last layer, and over time the evidence and the weights of frames.

The frames, their size and their modality are those that an evaluation of the model uses.

`vattn.explain.evidence` computes the values, `vattn.explain.figures` draws them, and this file reads and writes.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from vattn.config import TrialConfig
from vattn.data.config import AugmentConfig
from vattn.errors import UserError
from vattn.explain import figures
from vattn.explain.evidence import (
    Images,
    ShownFrames,
    branch_views,
    grad_cam_of_best_class,
    grad_cams,
    kernels_of_i3d,
    mechanism_values,
)
from vattn.explain.film import write_film
from vattn.files import at_home, replacing, writing
from vattn.model import SparseModel, load_model
from vattn.trained import Trained
from vattn.trained.model import resident_clip
from vattn.training.batches.loader import eval_batches
from vattn.training.batches.pixels import normalise
from vattn.training.batches.views import view_frames
from vattn.weights.statistics import recorded, statistics

__all__ = ["Trained", "explain", "grad_cams", "kernels_of_i3d", "load_trained"]

_CPU = torch.device("cpu")


def load_trained(config: TrialConfig, checkpoint: Path) -> Trained:
    """Return the network of ``config`` with the weights in ``checkpoint``, in evaluation mode.

    Raises:
        UserError: the checkpoint cannot be read, or its weights are those of another config.
    """
    net = load_model(config.model, config.data.num_classes(), checkpoint)
    return Trained(recorded(config, checkpoint), net.eval(), tuple(config.data.labels()))


def explain(
    model: Trained, videos: Sequence[Path], out: Path, i3d: Trained | None = None, truths: Sequence[str | None] = ()
) -> list[Path]:
    """Write pictures of what ``model`` and its mechanisms respond to in videos.

    Args:
        model: the trained model, on the CPU.
        videos: video files or folders of images; for a model of optical flow, folders of its images.
        out: the folder to write to; it is created. Of several videos, each has a folder of its name in it.
        i3d: a model with temporal convolutions 3x1x1 (kind i3d). The weights of the last one in each stage are drawn
            beside the TAM of that stage.
        truths: the class of each video, by name, or None; none: they are not known.

    Returns:
        The written files.

    Raises:
        UserError: a video cannot be read, a truth is no class, the model's clips are larger than the stored frames, or
            ``i3d`` has no mechanism of kind i3d.
        StorageError: a file cannot be written.
    """
    kernels, labels = kernels_of_i3d(i3d), model.labels
    for truth in truths:
        if truth is not None and truth not in labels:
            raise UserError("must be a class of the model", path="--truth", found=truth)
    known = [labels.index(truth) if truth is not None else None for truth in truths] or [None] * len(videos)
    files: list[Path] = []
    for video, truth, folder in zip(videos, known, _folders(videos, out), strict=True):
        with writing(folder, figures.WAY_OUT):
            folder.mkdir(parents=True, exist_ok=True)
        files += _explain(model, video, folder, kernels, truth)
    return files


def _explain(
    model: Trained, video: Path, out: Path, kernels: dict[str, tuple[str, Tensor]], truth: int | None
) -> list[Path]:
    config, net, labels = model
    clip, shown = _read_clip(config, video)
    images = normalise(torch.from_numpy(clip).permute(3, 0, 1, 2)[None], _CPU, statistics(config))
    drawn: dict[str, Figure] = {}
    if isinstance(net, SparseModel):
        drawn["frames"] = figures.draw_branches(branch_views(net, images, clip, len(shown.pixels)), shown)
    class_maps = grad_cam_of_best_class(net, images, truth)
    drawn["gradcam"] = figures.draw_grad_cam(class_maps, shown, labels)
    values = list(mechanism_values(net, images))
    for each in values:
        drawn[each.name] = figures.draw_mechanism(each, shown, kernels.get(each.stage))
    files = []
    for name, figure in drawn.items():
        files.append(out / f"{name}.png")
        figures.save(figure, files[-1])
    files.append(out / "weights.mp4")
    with writing(files[-1], figures.WAY_OUT), replacing(files[-1]) as part:
        write_film(class_maps, values, shown, labels, part)
    return files


def _folders(videos: Sequence[Path], out: Path) -> list[Path]:
    """Return the folder of each video's pictures: ``out`` for a single one, else one of its name, with a number."""
    if len(videos) == 1:
        return [out]
    names = [at_home(str(video)).stem for video in videos]
    seen: Counter[str] = Counter()
    folders = []
    for name in names:
        seen[name] += 1
        folders.append(out / (name if names.count(name) == 1 else f"{name}-{seen[name]}"))
    return folders


def _read_clip(config: TrialConfig, video: Path) -> tuple[Images, ShownFrames]:
    """Return the pixels of a video that evaluation uses for a single view, and the frames to show."""
    model, data = config.model, config.data
    views = data.views.model_copy(update={"clips": 1, "crops": 1})
    data = data.model_copy(update={"views": views, "augment": AugmentConfig()})
    stored = resident_clip(config, video, _CPU)

    def pixels(modality: str) -> Images:
        of_modality = data.model_copy(update={"modality": modality})
        ((images, _),) = eval_batches(stored, of_modality, model, 1)
        return images[0].permute(1, 2, 3, 0).contiguous().numpy()

    clip, middle = pixels(data.modality), model.backbone.frames_per_segment // 2
    chosen = view_frames(data, model, stored.shapes.item(0, 0)).tolist()
    one_each = slice(middle, None, model.backbone.frames_per_segment)
    if data.modality != "diff":
        return clip, ShownFrames(clip[one_each], chosen)
    return clip, ShownFrames(pixels("rgb")[one_each], chosen, clip[one_each])
