"""Configs of I3D, which is a plain convolution; tests/vattn/modules/test_temporal.py tests its values."""

from vattn.modules.i3d import I3DConfig

FORMS = {}
CONFIGS = [I3DConfig(), I3DConfig(kernel_size=5)]
