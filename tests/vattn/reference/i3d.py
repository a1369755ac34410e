"""I3D is a bare convolution, which is counted as it is; tests/vattn/test_temporal.py holds its values."""

from vattn.modules.i3d import I3DConfig

FORMS = {}
CONFIGS = [I3DConfig(), I3DConfig(kernel_size=5)]
