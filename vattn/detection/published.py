"""Names in the public PyTorch code of R-C3D, and in this package's."""

from vattn.weights.state import Rules

#: Numbers of the layers of ``RCNN_base``, which are those of its list of layers.
_C3D = {0: "conv1", 3: "conv2", 6: "conv3a", 8: "conv3b", 11: "conv4a", 13: "conv4b", 16: "conv5a", 18: "conv5b"}
_RESNET = {0: "conv1", 1: "bn1", 4: "layer1", 5: "layer2", 6: "layer3"}

_COMMON: Rules = (
    (r"^RCNN_rpn\.RPN_Conv(?:1)?\.", "rpn.convs.0."), (r"^RCNN_rpn\.RPN_Conv2\.", "rpn.convs.1."),
    (r"^RCNN_rpn\.RPN_cls_score\.", "rpn.score."), (r"^RCNN_rpn\.RPN_twin_pred\.", "rpn.offset."),
    (r"^RCNN_cls_score\.", "fc."), (r"^RCNN_twin_pred\.", "offset."),
)  # fmt: skip


def rc3d_rules(backbone: str) -> Rules:
    """Return the rules from the authors' names, for a backbone of this kind."""
    layers = _C3D if backbone == "c3d" else _RESNET
    base = tuple((rf"^RCNN_base\.{number}\.", f"{name}.") for number, name in layers.items())
    if backbone == "c3d":
        return (*_COMMON, *base, (r"^RCNN_top\.0\.", "fc6."), (r"^RCNN_top\.[23]\.", "fc7."))
    return (*_COMMON, *base, (r"^RCNN_top\.0\.(\d)\.", r"layer4.\1."))
