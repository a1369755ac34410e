"""I3D has no class of its own: its convolution is what is counted (tests/vattn/test_temporal.py holds its values)."""

from vattn.modules.i3d import I3DConfig

FORMS = {}
CONFIGS = [I3DConfig(), I3DConfig(kernel_size=5)]
