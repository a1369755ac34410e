"""The diagrams of the mechanisms: ``python -m docs.tools.figures`` writes docs/assets/mechanisms."""

from pathlib import Path

from docs.tools.drawing import Edge, Figure, Node, data, gate, operation, svg

FOLDER = Path(__file__).resolve().parents[1] / "assets" / "mechanisms"

FIGURES: dict[str, Figure] = {
    "tam": Figure(
        "TAM: a gate for each frame, then a temporal convolution with a predicted kernel",
        {
            "x": data(0, 1, "X"), "mean": Node(0.9, 0, "mean over\npixels"),
            "local": Node(2.1, 0, "conv K, BN, ReLU,\nconv 1, sigmoid"), "gates": gate(3.3, 0, "gates\nC x T"),
            "global": Node(2.1, 2, "linear, BN, ReLU,\nlinear, softmax"), "taps": gate(3.3, 2, "K taps\nper channel"),
            "times": operation(3.3, 1, "⊙"), "conv": operation(4.2, 1, "∗"), "y": data(4.9, 1, "Y"),
        },
        [
            Edge("x", "times"), Edge("x", "mean", "vh"), Edge("mean", "local"), Edge("mean", "global", "vh"),
            Edge("local", "gates"), Edge("global", "taps"), Edge("gates", "times"), Edge("taps", "conv", "hv"),
            Edge("times", "conv"), Edge("conv", "y"),
        ],
    ),
    "tsm": Figure(
        "TSM: parts of the channels move one frame along time",
        {
            "x": data(0, 1, "X, frame t"), "first": Node(1.5, 0, "channels 0 ... f"),
            "second": Node(1.5, 1, "channels f ... 2f"), "rest": Node(1.5, 2, "other channels"),
            "next": gate(3, 0, "from frame t + 1"), "previous": gate(3, 1, "from frame t - 1"),
            "same": gate(3, 2, "from frame t"), "y": data(4.2, 1, "Y, frame t"),
        },
        [
            Edge("x", "first", "vh"), Edge("x", "second"), Edge("x", "rest", "vh"), Edge("first", "next"),
            Edge("second", "previous"), Edge("rest", "same"), Edge("next", "y", "hv"), Edge("previous", "y"),
            Edge("same", "y", "hv"),
        ],
    ),
    "m2a": Figure(
        "M2A: motion, then attention among frames, in few channels; their result is a gate",
        {
            "x": data(0, 1, "X"), "down": Node(0.8, 0, "conv 1x1\nC to C/R"), "norm": Node(1.7, 0, "norm of\na frame"),
            "motion": gate(2.65, 0, "motion:\nnext - this"), "attention": gate(3.8, 0, "attention\namong frames"),
            "sum": operation(4.7, 0, "+"), "up": Node(5.5, 0, "conv 1x1,\nsigmoid"), "times": operation(5.5, 1, "⊙"),
            "plus": operation(6.2, 1, "+"), "y": data(6.8, 1, "Y"), "same": data(6.2, 0.1, "X"),
            "skip": data(2.65, -0.85, "output of conv 1x1"),
        },
        [
            Edge("x", "down", "vh"), Edge("down", "norm"), Edge("norm", "motion"), Edge("motion", "attention"),
            Edge("attention", "sum"), Edge("sum", "up"), Edge("up", "times"), Edge("x", "times"),
            Edge("times", "plus"), Edge("same", "plus"), Edge("plus", "y"), Edge("down", "skip", "vh"),
            Edge("skip", "sum", "hv"),
        ],
    ),
    "tea": Figure(
        "TEA's motion excitation: channels are scaled by the change to the next frame",
        {
            "x": data(0, 1, "X"), "down": Node(0.8, 0, "conv 1x1, BN\nC to C/r"),
            "conv": Node(2, -0.6, "depthwise 3x3\nof frame t + 1"), "now": Node(2, 0.35, "frame t"),
            "minus": operation(3, 0, "-"), "mean": Node(3.75, 0, "mean over\npixels"),
            "up": Node(4.75, 0, "conv 1x1, BN,\nsigmoid - 1/2"), "times": operation(4.75, 1, "⊙"),
            "plus": operation(5.5, 1, "+"), "y": data(6.1, 1, "Y"), "same": data(5.5, 0.1, "X"),
        },
        [
            Edge("x", "down", "vh"), Edge("down", "conv", "vh"), Edge("down", "now"), Edge("conv", "minus", "hv"),
            Edge("now", "minus"), Edge("minus", "mean"), Edge("mean", "up"), Edge("up", "times"), Edge("x", "times"),
            Edge("times", "plus"), Edge("same", "plus"), Edge("plus", "y"),
        ],
    ),
    "mta": Figure(
        "MTA: each split of the channels sees what the split before it has seen",
        {
            "x1": data(0, 0, "split 1"), "x2": data(0, 1, "split 2"), "x3": data(0, 2, "split 3"),
            "x4": data(0, 3, "split 4"), "t1": Node(2, 0, "temporal conv,\nconv 3x3, BN, ReLU"),
            "t2": Node(2, 1, "temporal conv,\nconv 3x3, BN, ReLU"),
            "t3": Node(2, 2, "temporal conv,\nconv 3x3, BN, ReLU"),
            "t4": Node(2, 3, "temporal shift"), "p2": operation(0.9, 1, "+"), "p3": operation(0.9, 2, "+"),
            "y": data(3.6, 1.5, "concatenate"),
        },
        [
            Edge("x1", "t1"), Edge("x2", "p2"), Edge("p2", "t2"), Edge("x3", "p3"), Edge("p3", "t3"), Edge("x4", "t4"),
            Edge("t1", "p2"), Edge("t2", "p3"), Edge("t1", "y", "hv"), Edge("t2", "y", "hv"), Edge("t3", "y", "hv"),
            Edge("t4", "y", "hv"),
        ],
    ),
    "tdn": Figure(
        "TDN's long-term difference: gates from differences to both neighbours, at three scales",
        {
            "x": data(0, 1, "X"), "down": Node(0.8, 0, "conv 1x1, BN\nC to C/r"),
            "difference": gate(2, 0, "difference to frame\nt + 1 and t - 1"), "same": Node(3.5, -0.75, "as it is"),
            "coarse": Node(3.5, 0, "half size: conv 3x3"), "fine": Node(3.5, 0.6, "conv 3x3"),
            "mean": operation(4.55, 0, "+"), "up": Node(5.35, 0, "conv 1x1, BN,\nsigmoid - 1/2"),
            "times": operation(5.35, 1, "⊙"), "y": data(6.9, 1, "Y"), "shift": Node(6.2, 1, "shift"),
        },
        [
            Edge("x", "down", "vh"), Edge("down", "difference"), Edge("difference", "same", "vh"),
            Edge("difference", "coarse"), Edge("difference", "fine", "vh"), Edge("same", "mean", "hv"),
            Edge("coarse", "mean"), Edge("fine", "mean", "hv"), Edge("mean", "up"), Edge("up", "times"),
            Edge("x", "times"), Edge("times", "shift", label="+ X"), Edge("shift", "y"),
        ],
    ),
    "action": Figure(
        "ACTION: a shift, then three excitations whose results are added",
        {
            "x": data(0, 1, "X"), "shift": Node(0.75, 1, "learnable\nshift"),
            "ste": Node(2.2, 0, "spatio-temporal:\nconv 3x3x3 of the mean"),
            "ce": Node(2.2, 1, "channel: SE with\ntemporal conv"),
            "me": Node(2.2, 2, "motion: next frame\nminus this frame"), "s1": gate(3.65, 0, "1 + sigmoid"),
            "s2": gate(3.65, 1, "1 + sigmoid"), "s3": gate(3.65, 2, "1 + sigmoid"), "sum": operation(4.6, 1, "+"),
            "times": operation(5.3, 1, "⊙"), "z": data(5.3, 0, "shifted X"), "y": data(6, 1, "Y"),
        },
        [
            Edge("x", "shift"), Edge("shift", "ste", "vh"), Edge("shift", "ce"), Edge("shift", "me", "vh"),
            Edge("ste", "s1"), Edge("ce", "s2"), Edge("me", "s3"), Edge("s1", "sum", "hv"), Edge("s2", "sum"),
            Edge("s3", "sum", "hv"), Edge("sum", "times"), Edge("z", "times"), Edge("times", "y"),
        ],
    ),
    "cstl": Figure(
        "CSTL: two serial temporal convolutions (short term), or a weighted mean of all frames (long term)",
        {
            "x": data(0, 0, "X"), "one": Node(1.1, 0, "temporal conv 3,\nBN"),
            "two": Node(2.5, 0, "temporal conv 3,\nBN"),
            "sum": operation(3.5, 0, "+"), "y": data(4.2, 0, "Y, short"), "skip": data(2.5, -0.8, "sees 3 frames"),
            "x2": data(0, 1.2, "X"), "score": gate(1.2, 1.2, "scores of every\nchannel and pixel"),
            "mean": Node(2.75, 1.2, "weighted mean\nover frames"), "y2": data(4.2, 1.2, "Y, long"),
        },
        [
            Edge("x", "one"), Edge("one", "two"), Edge("two", "sum"), Edge("one", "skip", "vh"),
            Edge("skip", "sum", "hv"),
            Edge("sum", "y"), Edge("x2", "score"), Edge("score", "mean"), Edge("mean", "y2"),
        ],
    ),
    "se": Figure(
        "SE: channels are scaled by gates predicted from their means",
        {
            "x": data(0, 1, "X"), "mean": Node(0.9, 0, "mean over\npixels"),
            "down": Node(1.9, 0, "linear, ReLU\nC to C/r"),
            "up": Node(3, 0, "linear,\nsigmoid"), "times": operation(3, 1, "⊙"), "y": data(3.8, 1, "Y"),
        },
        [
            Edge("x", "mean", "vh"), Edge("mean", "down"), Edge("down", "up"), Edge("up", "times"), Edge("x", "times"),
            Edge("times", "y"),
        ],
    ),
    "nonlocal": Figure(
        "Non-local block: every place of a clip attends to all places",
        {
            "x": data(0, 1, "X"), "query": Node(1.2, 0, "queries: conv 1x1"), "key": Node(1.2, 1, "keys: conv 1x1"),
            "value": Node(1.2, 2, "values: conv 1x1"), "pool": Node(0, 2, "max pool\n2 x 2"),
            "weights": gate(2.6, 0.5, "weights of\nall pairs"), "times": operation(3.5, 1.25, "x"),
            "up": Node(4.4, 1.25, "conv 1x1, BN"), "sum": operation(5.3, 1.25, "+"), "y": data(5.95, 1.25, "Y"),
            "skip": data(5.3, 0.4, "X"),
        },
        [
            Edge("x", "query", "vh"), Edge("x", "pool"), Edge("pool", "key"), Edge("pool", "value"),
            Edge("query", "weights"), Edge("key", "weights"), Edge("weights", "times", "hv"),
            Edge("value", "times", "hv"),
            Edge("times", "up"), Edge("up", "sum"), Edge("skip", "sum"), Edge("sum", "y"),
        ],
    ),
    "i3d": Figure(
        "I3D 3x1x1: the first convolution of a bottleneck sees neighbouring frames",
        {
            "x": data(0, 0, "X"), "conv": gate(1.2, 0, "conv 3x1x1\ninstead of 1x1"), "bn": Node(2.3, 0, "BN, ReLU"),
            "mid": Node(3.3, 0, "conv 3x3,\nBN, ReLU"), "last": Node(4.3, 0, "conv 1x1,\nBN"),
            "sum": operation(5.1, 0, "+"),
            "y": data(5.7, 0, "Y"), "skip": data(2.6, -0.85, "shortcut"),
        },
        [
            Edge("x", "conv"), Edge("conv", "bn"), Edge("bn", "mid"), Edge("mid", "last"), Edge("last", "sum"),
            Edge("sum", "y"), Edge("x", "skip", "vh"), Edge("skip", "sum", "hv"),
        ],
    ),
    "c2d_tconv": Figure(
        "C2D-TConv: one temporal convolution for all videos",
        {
            "before": data(0, 0, "frame t - 1"), "now": data(0, 0.75, "frame t"), "after": data(0, 1.5, "frame t + 1"),
            "conv": gate(1.5, 0.75, "K x C x C weights,\nthe same for all videos"), "y": data(3, 0.75, "Y, frame t"),
        },
        [Edge("before", "conv", "hv"), Edge("now", "conv"), Edge("after", "conv", "hv"), Edge("conv", "y")],
    ),
    "c2d_pool": Figure(
        "C2D-Pool: an average over neighbouring frames",
        {
            "before": data(0, 0, "frame t - 1"), "now": data(0, 0.75, "frame t"), "after": data(0, 1.5, "frame t + 1"),
            "mean": Node(1.4, 0.75, "mean"), "y": data(2.5, 0.75, "Y, frame t"),
        },
        [Edge("before", "mean", "hv"), Edge("now", "mean"), Edge("after", "mean", "hv"), Edge("mean", "y")],
    ),
    "sta": Figure(
        "STA: one number for each frame, stretched over time, then a weight for each frame and channel",
        {
            "x": data(0, 1, "X"), "squeeze": Node(0.9, 0, "conv C x H x W:\na number per frame"),
            "deconv": Node(2.25, 0, "deconv over time\nstep s"), "relu": Node(3.25, 0, "ReLU"),
            "expand": Node(4.2, 0, "conv over time,\nsigmoid"), "weights": gate(5.4, 0, "weights\nC x T"),
            "times": operation(5.4, 1, "⊙"), "y": data(6.1, 1, "Y"),
        },
        [
            Edge("x", "squeeze", "vh"), Edge("squeeze", "deconv"), Edge("deconv", "relu"), Edge("relu", "expand"),
            Edge("expand", "weights"), Edge("weights", "times"), Edge("x", "times"), Edge("times", "y"),
        ],
    ),
    "tcnn": Figure(
        "A pair of the T-CNN: a spatial and a dilated temporal convolution, with a shortcut",
        {
            "x": data(0, 0, "X"), "space": Node(1.1, 0, "conv 1x3x3,\nBN, ReLU"),
            "time": gate(2.6, 0, "conv 3x1x1, dilation d:\nframes t-d, t, t+d"), "bn": Node(3.85, 0, "BN"),
            "sum": operation(4.6, 0, "+"), "relu": Node(5.3, 0, "ReLU"), "y": data(6, 0, "Y"),
            "skip": data(2.3, -0.9, "shortcut (conv 1x1x1 where the width changes)"),
        },
        [
            Edge("x", "space"), Edge("space", "time"), Edge("time", "bn"), Edge("bn", "sum"), Edge("sum", "relu"),
            Edge("relu", "y"), Edge("x", "skip", "vh"), Edge("skip", "sum", "hv"),
        ],
    ),
    "sparse": Figure(
        "Sparse attention: class maps, their peaks, and two resampled clips through the same network",
        {
            "clip": data(0, 1, "clip"), "net": Node(0.9, 1, "network"), "maps": gate(1.9, 1, "class maps"),
            "peaks": Node(2.9, 1, "peaks"), "kernels1": gate(4.2, 0, "discriminative\nsaliency"),
            "kernels2": gate(4.2, 2, "complementary\nsaliency"), "clip1": data(5.6, 0, "resampled clip"),
            "clip2": data(5.6, 2, "resampled clip"), "clip0": data(5.6, 1, "original clip"),
            "net2": Node(6.9, 1, "the same network,\nlosses of O, D, C\nand of all three"),
        },
        [
            Edge("clip", "net"), Edge("net", "maps"), Edge("maps", "peaks"), Edge("peaks", "kernels1", "vh"),
            Edge("peaks", "kernels2", "vh"), Edge("kernels1", "clip1"), Edge("kernels2", "clip2"),
            Edge("clip1", "net2", "hv"), Edge("clip2", "net2", "hv"), Edge("clip0", "net2"),
        ],
    ),
}  # fmt: skip


def main() -> None:
    """Write all diagrams."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, figure in FIGURES.items():
        (FOLDER / f"{name}.svg").write_text(svg(figure), encoding="utf-8")


if __name__ == "__main__":
    main()
