"""Properties of all layouts."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from tests.vattn.data.layouts.support import config
from vattn.canonical import trial_id
from vattn.config import AnyData, TrialConfig
from vattn.errors import UserError


@pytest.mark.parametrize("kind", ["kinetics", "ssv1", "ssv2", "ucf101", "hmdb51", "folders", "list", "thumos14"])
def test_a_folder_without_the_files_of_the_set_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^data\.\w+: {re.escape(str(tmp_path))}"):
        config(kind, tmp_path).num_classes()
    with pytest.raises(UserError, match=rf"^data\.root: must be the folder of the {kind} files"):
        config(kind, tmp_path / "gone").labels()


def test_the_root_is_required() -> None:
    with pytest.raises(ValidationError, match="there is none to choose for you"):
        config("folders", Path("auto"))
    with pytest.raises(ValidationError, match="Field required"):
        TypeAdapter(AnyData).validate_json('{"kind": "folders"}')


def identity(root: str, **data: Any) -> str:
    """Return the identity of a trial with some data."""
    model = {"frames": 4, "size": 32, "backbone": {"kind": "resnet", "depth": 10}}
    train = {"epochs": 1, "batch": 4, "lr": 0.1}
    return trial_id(TrialConfig.parse({"data": {"kind": "list", "root": root} | data, "model": model, "train": train}))


def test_identity_depends_on_the_names_of_lists_but_not_on_where_files_lie() -> None:
    assert identity("/a") == identity("/b", cache="/c", max_faults=3)
    assert identity("/a", train="/a/1.txt") == identity("/a", train="/b/1.txt") == identity("/c", train="1.txt")
    assert identity("/a", train="1.txt") != identity("/a", train="2.txt")


def test_identities_are_those_of_the_time_before_prefix_and_the_shares_of_max_faults() -> None:
    assert identity("/a") == identity("/a", prefix="auto", max_faults="1 %") == "0ab6acbd94754157"
    assert identity("/a", prefix="img_") != identity("/a")
    table = {"kind": "table", "file": "x.csv"}
    assert identity("/a", **table) == identity("/a", **table, first="none", last="none") == "73bda5348f624574"
    assert identity("/a", **table, first="first") != identity("/a", **table)


def test_a_root_is_the_same_from_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert config("folders", Path("videos")).root == str(tmp_path / "videos")


@pytest.mark.parametrize("kind", ["ssv1", "ucf101", "folders", "list"])
def test_a_given_number_of_classes_needs_no_files_and_is_compared_with_them(kind: str, tmp_path: Path) -> None:
    assert config(kind, tmp_path / "gone", classes=7).num_classes() == 7
    assert config("kinetics", tmp_path / "gone", classes=600).num_classes() == 600
    with pytest.raises(UserError, match="must be the folder of the"):
        config(kind, tmp_path / "gone", classes=7).labels()


def test_another_number_of_classes_than_that_of_the_lists_is_refused(tmp_path: Path) -> None:
    for name in ("run", "jump"):
        (tmp_path / "train" / name).mkdir(parents=True)

    assert config("folders", tmp_path, classes=2).num_classes() == 2
    with pytest.raises(UserError, match=r"data\.classes: must be as many as the lists in .* name, 2.*\(got 3\)"):
        config("folders", tmp_path, classes=3).num_classes()


def test_a_given_number_of_classes_is_no_part_of_an_identity() -> None:
    assert identity("/a", classes=5) == identity("/a")
