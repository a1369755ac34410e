"""Builder for the recordings of P3D's blocks."""

from typing import Any

from tests.vattn.golden import Case
from vattn.backbones.p3d import P3DBlock


def _block(meta: dict[str, Any]) -> Case:
    c = meta["config"]
    assert c["inplanes"] == 4 * c["planes"]
    return Case(P3DBlock(c["ST"], c["inplanes"], c["planes"], stride=1), dict)


GOLDEN = {f"P3D bottleneck ST_{kind}": _block for kind in "ABC"}
