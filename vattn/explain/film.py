"""A film of what a model responds to: frames with their evidence, and weights over time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vattn.data.motion import encode
from vattn.explain.evidence import ClassMaps, ShownFrames, STAValues, TAMValues, spread_over_time
from vattn.explain.figures import describe_truth

#: Pictures for which each of the model's frames is shown; a second has 12.
HELD = 6
#: Inches and dots per inch; their product is even, as H.264 requires.
_SIZE, _DPI = (9.0, 4.0), 100
#: Curves that are drawn, those of the last stages.
_CURVES = 6

Curve = Float[np.ndarray, " t"]


def curves(class_maps: ClassMaps, values: Sequence[TAMValues | STAValues], frames: int) -> dict[str, Curve]:
    """Return values from 0 to 1 for each of T frames, by name.

    These are the Grad-CAM evidence of the last layer, as a share of the highest; the importance of frames that TAMs
    give, and the weights of frames of STAs, as means over channels.
    """
    last = list(class_maps.maps.values())[-1] if class_maps.maps else None
    found: dict[str, Curve] = {}
    if last is not None:
        evidence = np.array([float(np.mean(m)) for m in spread_over_time(last, frames)])
        found["evidence (Grad-CAM)"] = evidence / max(float(evidence.max()), np.finfo(float).tiny)
    weighted = []
    for each in values:
        if isinstance(each, TAMValues) and each.gate is not None:
            gate = each.gate.mean(0).expand(frames) if each.gate.shape[1] == 1 else each.gate.mean(0)
            weighted.append((f"TAM {each.place}", gate))
        elif isinstance(each, STAValues) and each.weights.shape[1] > 1:
            weighted.append((f"STA {each.place}", each.weights.mean(0)))
    for name, weights in weighted[-_CURVES:]:
        found[name] = np.array([float(value) for value in spread_over_time(weights, frames)])
    return found


def write_film(
    class_maps: ClassMaps,
    values: Sequence[TAMValues | STAValues],
    shown: ShownFrames,
    labels: Sequence[str],
    file: Path,
) -> None:
    """Write an MP4 of the frames with the evidence of the last layer over them, beside the weights over time."""
    frames = len(shown.pixels)
    by_name = curves(class_maps, values, frames)
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    picture, chart = figure.subplots(1, 2, width_ratios=(1, 1.4))
    truth = describe_truth(class_maps, labels)
    title = f"{labels[class_maps.classes[0]]} {class_maps.probabilities[0]:.0%}"
    figure.suptitle(f"{title}; {truth}" if truth else title)
    picture.set_axis_off()
    height, width = shown.pixels.shape[1:3]
    frame = picture.imshow(shown.pixels[0])
    maps = list(class_maps.maps.values())
    # A network without maps, such as one whose features are a pixel, has no evidence over its frames.
    over = spread_over_time(maps[-1], frames) if maps else [np.zeros((1, 1), np.float32)] * frames
    heat = picture.imshow(
        over[0], cmap="turbo", alpha=0.7 * over[0], vmin=0, vmax=1, interpolation="bilinear",
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )  # fmt: skip
    for name, curve in by_name.items():
        chart.plot(range(frames), curve, marker="o", label=name)
    chart.set_xticks(range(frames), [str(number) for number in shown.numbers], fontsize=7, rotation=90)
    chart.set(xlabel="frame", ylabel="weight", ylim=(-0.03, 1.03))
    if by_name:
        chart.legend(fontsize=7, loc="lower left")
    cursor = chart.axvline(0, color="black", linewidth=1)
    film: list[np.ndarray] = []
    for t in range(frames):
        frame.set_data(shown.pixels[t])
        picture.set_title(f"frame {shown.numbers[t]}", fontsize=9)
        heat.set_data(over[t])
        heat.set_alpha(0.7 * over[t])
        cursor.set_xdata([t, t])
        canvas.draw()
        film += [np.asarray(canvas.buffer_rgba())[..., :3].copy()] * HELD
    encode(file, np.stack(film))
