"""100 of the damaged videos; ``python -m tests.vattn.situations.damaged`` tries 2,000."""

from collections import Counter

import pytest

from tests.vattn.situations.damaged import DAMAGE, SOURCES, run, same, sources


@pytest.mark.medium
def test_damaged_videos_are_read_as_packet_by_packet_or_named() -> None:
    lines = list(run(seed=0, numbers=list(range(100)), jobs=2))

    outcomes = Counter(line["outcome"] for line in lines)
    assert sorted(line["number"] for line in lines) == list(range(100))
    assert {line["kind"] for line in lines} == set(DAMAGE)
    assert len({line["source"] for line in lines}) == len(SOURCES)
    for wrong in ("different", "hang", "crash"):
        assert not outcomes[wrong], [line for line in lines if line["outcome"] == wrong]
    assert all(line["message"] for line in lines if line["outcome"] in ("unreadable", "concealed"))
    # No message is about a file that was read before.
    assert not any("repeated" in line["message"] for line in lines)
    # The damage is real: most files cannot be read as if nothing had happened.
    assert outcomes["unreadable"] + outcomes["concealed"] > 40


@pytest.mark.medium
def test_videos_of_other_frames_are_not_the_same() -> None:
    frames = sources()[0].frames

    assert same(frames, list(frames))
    assert not same(frames, frames[:-1])
    assert not same(frames, [*frames[1:], frames[0]])
    assert not same(frames, [frame[:, ::-1] for frame in frames])
