"""State dicts are read from files, and their entries are renamed."""

from pathlib import Path

import pytest
import torch

from vattn.errors import UserError
from vattn.weights import read_state, rename


def test_files_without_a_state_dict_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    torch.save({"state_dict": {"a": 1}}, tmp_path / "numbers.pth")

    with pytest.raises(UserError, match=r"there is no file .*none\.pth"):
        read_state(tmp_path / "none.pth")
    with pytest.raises(UserError, match=r"text\.pth is not a state dict"):
        read_state(tmp_path / "text.pth")
    with pytest.raises(UserError, match=r"list\.pth holds no state dict.*found list"):
        read_state(tmp_path / "list.pth")
    with pytest.raises(UserError, match=r"numbers\.pth holds no state dict"):
        read_state(tmp_path / "numbers.pth")


def test_rules_that_give_two_entries_the_same_name_are_refused() -> None:
    state = {"a.net.weight": torch.zeros(1), "a.weight": torch.zeros(1)}

    with pytest.raises(UserError, match=r"a\.weight and a\.net\.weight both stand for a\.weight"):
        rename(state, [(r"\.net\.", ".")])


def test_entries_whose_name_becomes_empty_are_left_out() -> None:
    assert list(rename({"old.weight": torch.zeros(1), "new": torch.ones(1)}, [(r"^old\..*", "")])) == ["new"]
