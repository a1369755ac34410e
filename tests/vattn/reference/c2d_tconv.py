"""Configs of C2D-TConv, which is a plain convolution; tests/vattn/modules/test_temporal.py tests its values."""

from vattn.modules.c2d_tconv import C2DTConvConfig

FORMS = {}
CONFIGS = [C2DTConvConfig(), C2DTConvConfig(kernel_size=5)]
