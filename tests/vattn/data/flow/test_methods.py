"""Flow has the right sign and size, and levels are those of MARS's code."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.optical_flow import raft_small

from tests.vattn.golden import MARS, Recording
from vattn.data.flow import Method, as_levels
from vattn.data.flow import methods as module
from vattn.errors import UserError


def moved(shifts: Sequence[tuple[int, int]], size: int = 96, seed: int = 0) -> list[np.ndarray]:
    """Return frames of a smooth texture whose content moves by (x, y) pixels from each to the next."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.standard_normal((256, 256, 3)), axes=(0, 1))
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)) * 256
    texture = np.fft.irfft2(spectrum / (1 + frequency[..., None]) ** 1.5, (256, 256), axes=(0, 1))
    texture = (127 + 50 * (texture - texture.mean()) / texture.std()).clip(0, 255).astype(np.uint8)
    frames, x, y = [], 80, 80
    for dx, dy in [(0, 0), *shifts]:
        x, y = x - dx, y - dy  # the window moves against the content
        frames.append(texture[y : y + size, x : x + size])
    return frames


@pytest.mark.parametrize("shift", [(3, 0), (-4, 0), (0, 2), (0, -5), (6, 3)])
def test_tvl1_finds_a_translation(shift: tuple[int, int]) -> None:
    pytest.importorskip("cv2")
    (flow,) = Method("tvl1").flows(moved([shift]))

    assert flow.shape == (96, 96, 2)
    inner = flow[12:-12, 12:-12].reshape(-1, 2)
    np.testing.assert_allclose(np.median(inner, 0), shift, atol=0.1)
    assert np.abs(inner - shift).mean() < 0.25


def test_the_flow_of_a_frame_is_that_to_the_next_one() -> None:
    pytest.importorskip("cv2")
    flows = list(Method("tvl1").flows(moved([(2, 0), (-3, 0)])))

    assert [round(float(np.median(flow[12:-12, 12:-12, 0]))) for flow in flows] == [2, -3]


def test_opencv_without_its_contributed_modules_is_named_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)

    with pytest.raises(UserError, match=r"--flow: TV-L1 needs OpenCV .*pip install 'vattn-search\[flow\]'"):
        Method("tvl1").check()


def test_levels_are_those_of_mars() -> None:
    case = Recording(MARS / "mars_preprocess_a__train.npz")

    np.testing.assert_array_equal(as_levels(case.arrays["flow"]), case.arrays["flow_uint8"])


def test_levels_by_hand() -> None:
    flow = np.array([-25.0, -20.0, -10.0, 0.0, 10.0, 19.99, 20.0, 99.0], np.float32)

    # (f + 20) / 40 * 255, rounded down: 63.75, 127.5, 191.25, 254.9.
    assert as_levels(flow).tolist() == [0, 0, 63, 127, 191, 254, 255, 255]


@given(value=st.floats(-20, 20, width=32))
def test_a_level_stands_for_flow_within_its_step(value: float) -> None:
    level = int(as_levels(np.array([value], np.float32))[0])

    assert level / 255 * 40 - 20 - 1e-4 <= value <= (level + 1) / 255 * 40 - 20 + 1e-4


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("raft") / "raft_small.pth"
    torch.save(raft_small(weights=None).state_dict(), file)
    return file


@pytest.mark.medium
def test_raft_is_torchvisions_on_frames_of_any_size(weights: Path) -> None:
    frames = [np.random.default_rng(n).integers(0, 256, (128, 136, 3), np.uint8) for n in range(2)]
    net = raft_small(weights=None).eval()
    net.load_state_dict(torch.load(weights, weights_only=True))
    pixels = [torch.from_numpy(frame).permute(2, 0, 1)[None] / 127.5 - 1 for frame in frames]
    with torch.no_grad():
        expected = net(*pixels)[-1][0].permute(1, 2, 0)

    (flow,) = Method("raft", str(weights)).flows(frames)
    (padded,) = Method("raft", str(weights)).flows([frame[:101, :131] for frame in frames])

    torch.testing.assert_close(torch.from_numpy(flow), expected, rtol=1e-4, atol=1e-4)
    assert padded.shape == (101, 131, 2)


def test_weights_that_are_not_rafts_are_refused(weights: Path, tmp_path: Path) -> None:
    Method("raft", str(weights)).check()
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")

    for method, rule in (
        (Method("raft"), "raft needs its weights; name the file"),
        (Method("raft", str(tmp_path / "gone.pth")), "there is no file"),
        (Method("raft", str(tmp_path / "other.pth")), "has the weights of neither raft_large nor raft_small: it lacks"),
    ):
        with pytest.raises(UserError, match=f"--flow-weights: .*{rule}"):
            method.check()


def test_the_bound_is_that_of_mars() -> None:
    assert module.BOUND == 20
