"""C2D-TConv has no class of its own: its convolution is what is counted (tests/vattn/test_temporal.py holds its values)."""

from vattn.modules.c2d_tconv import C2DTConvConfig

FORMS = {}
CONFIGS = [C2DTConvConfig(), C2DTConvConfig(kernel_size=5)]
