"""C2D-TConv is a bare convolution, which is counted as it is; tests/vattn/test_temporal.py holds its values."""

from vattn.modules.c2d_tconv import C2DTConvConfig

FORMS = {}
CONFIGS = [C2DTConvConfig(), C2DTConvConfig(kernel_size=5)]
