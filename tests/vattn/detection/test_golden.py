"""The parts of detectors reproduce every recording of the public code."""

import os

import numpy as np
import pytest
import torch

from tests.vattn.detection.recorded import FOLDER, compared
from tests.vattn.golden import Recording

FILES = sorted(file for file in FOLDER.glob("*.npz") if not file.stem.startswith("mars_"))
if not FILES:
    source = "VATTN_GOLDEN_DETECTION" if "VATTN_GOLDEN_DETECTION" in os.environ else "tests/golden/detection"
    raise FileNotFoundError(f"{source}: there are no recordings (.npz) in {FOLDER}")


@pytest.mark.medium
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_detection_reproduces_the_recording(file) -> None:
    for name, value, expected, tolerance in compared(Recording(file)):
        array = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        if tolerance == "exact":
            np.testing.assert_array_equal(array, expected, err_msg=name)
        else:
            np.testing.assert_allclose(array.reshape(expected.shape), expected, **tolerance, err_msg=name)
