"""Show what a trained model responds to in one video, as pictures (the command ``vattn explain``).

* ``frames.png``: original, discriminative and complementary frames of sparse attention (Zhou, Li, Wang and Li,
  "Integrating Temporal and Spatial Attention for Video Action Recognition", Security and Communication Networks, 2022,
  Figure 2);
* ``gradcam.png``: Grad-CAM of layers, as in Figure 4 of M2A (Gebotys, Wong and Clausi, "M2A: Motion Aware Attention for
  Accurate Video Action Recognition", 2021, arXiv:2111.09976);
* ``tam-PLACE.png``: the kernels and the importance of a TAM, as in Figures 4 to 8 of TANet (Liu, Wang, Wu, Qian and Lu,
  "TAM: Temporal Adaptive Module for Video Recognition", ICCV 2021, arXiv:2005.06803);
* ``sta-PLACE.png``: the weights of frames and channels of an STA, as in Figure 1 of its paper (Li, Liu, Zhang, Zhang,
  Song and Sebe, "Spatio-Temporal Attention Networks for Action Recognition and Detection", IEEE Transactions on
  Multimedia, 2020).

`vattn.explain.evidence` computes the values, `vattn.explain.figures` draws them, and this file reads and writes.
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from vattn.config import TrialConfig
from vattn.data.decode import read_video
from vattn.data.sampling import centre_indices, surrounding
from vattn.errors import UserError
from vattn.explain import figures
from vattn.explain.evidence import (
    Images,
    ShownFrames,
    Trained,
    branch_views,
    grad_cam_of_best_class,
    grad_cams,
    kernels_of_i3d,
    mechanism_values,
)
from vattn.model import load_model
from vattn.training.batches.pixels import normalise
from vattn.weights.statistics import recorded, statistics

__all__ = ["Trained", "explain", "grad_cams", "kernels_of_i3d", "load_trained"]

#: Resolution of the pictures, dots per inch.
_DPI = 110


def load_trained(config: TrialConfig, checkpoint: Path) -> Trained:
    """Return the network of ``config`` with the weights in ``checkpoint``, in evaluation mode.

    Raises:
        UserError: the checkpoint cannot be read, or its weights are those of another config.
    """
    net = load_model(config.model, config.data.num_classes(), checkpoint)
    return Trained(recorded(config, checkpoint), net.eval())


def explain(model: Trained, video: Path, out: Path, i3d: Trained | None = None) -> list[Path]:
    """Write pictures of what ``model`` and its mechanisms respond to in a video.

    Args:
        model: the trained model.
        video: a video file that holds at least one clip.
        out: the folder to write to; it is created.
        i3d: a model with temporal convolutions 3x1x1 (kind i3d). The weights of the last one in each stage are drawn
            beside the TAM of that stage.

    Returns:
        The written files.

    Raises:
        UserError: the model takes optical flow, the video cannot be read, the model's clips are larger than the stored
            frames, or ``i3d`` has no mechanism of kind i3d.
    """
    config, net = model
    if config.data.modality == "flow":
        raise UserError("reads the colours of a video, and this model takes optical flow", path="data.modality")
    clip, shown = _read_clip(config, video)
    images = normalise(torch.from_numpy(clip).permute(3, 0, 1, 2)[None], torch.device("cpu"), statistics(config))
    out.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, Figure] = {}
    if config.model.backbone.averages:
        drawn["frames"] = figures.draw_branches(branch_views(net, images, clip, len(shown.pixels)), shown)
    drawn["gradcam"] = figures.draw_grad_cam(grad_cam_of_best_class(net, images), shown, config.data.labels())
    kernels = kernels_of_i3d(i3d)
    for values in mechanism_values(net, images):
        drawn[values.name] = figures.draw_mechanism(values, shown, kernels.get(values.stage))
    files = []
    for name, figure in drawn.items():
        files.append(out / f"{name}.png")
        figure.savefig(files[-1], dpi=_DPI, bbox_inches="tight")
    return files


def _read_clip(config: TrialConfig, video: Path) -> tuple[Images, ShownFrames]:
    """Return the frames of a video that evaluation uses, cropped at the centre, and the frames to show."""
    model, stored = config.model, config.data.store.size
    if not video.is_file():
        raise UserError("there is no such file", file=video)
    if model.size > stored:
        raise UserError(f"must not exceed data.store.size, {stored} pixels", path="model.size", found=model.size)
    try:
        frames = read_video(video, stored)
    except ValueError as error:
        raise UserError(f"cannot be read: {error}", file=video) from error
    chosen = centre_indices(len(frames), model.frames)
    per_segment = model.backbone.frames_per_segment
    clip = frames[surrounding(chosen, per_segment, len(frames))]
    top, left = ((side - model.size) // 2 for side in clip.shape[1:3])
    clip = np.ascontiguousarray(clip[:, top : top + model.size, left : left + model.size])
    return clip, ShownFrames(clip[per_segment // 2 :: per_segment], chosen.tolist())
