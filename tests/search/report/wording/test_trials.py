"""Descriptions of a trial's model and of the values that were searched."""

from search.report.wording.trials import describe, explain_names, mechanism_kinds, searched_values
from tests.search.trials import TAM, history, trial_events


def test_a_description_names_the_mechanisms_and_the_searched_values() -> None:
    shift = {"kind": "tsm", "fold_div": 8, "fill": "zero", "online": False}
    shift |= {"stages": [2, 4], "position": "a", "every": 2}
    plain = history(trial_events(0, [0.5], 1.0, attention=[], frames=4)).trials[0]
    both = history(trial_events(0, [0.5], 1.0, attention=[shift, TAM])).trials[0]

    assert (mechanism_kinds(plain), describe(plain)) == ("no attention", "no attention, T4, lr 0.05")
    assert mechanism_kinds(both) == "tsm + tam"
    assert describe(both) == "tsm fd8 @res2,4 a every 2 + tam a2 b4 K3 @res2-5 b, T8, lr 0.05"


def test_short_names_are_explained_by_the_letters_that_are_there() -> None:
    shift = {"kind": "tsm", "fold_div": 8, "fill": "zero", "online": False, "stages": [2], "position": "a", "every": 2}
    trials = history([
        *trial_events(0, [0.5], 1.0, attention=[], frames=4),
        *trial_events(1, [0.5], 1.0, attention=[shift]),
        *trial_events(2, [0.5], 1.0, attention=[{"kind": "other", "alpha": 2, "angle": 3}]),
    ]).trials  # fmt: skip

    assert explain_names([trials[0]]) == "T: frames of a clip."
    assert explain_names(trials.values()) == (
        "A model is named by its mechanism (a: alpha or angle, fd: fold_div), @ its stages, and its place in a block; "
        "T: frames of a clip."
    )


def test_texts_and_switches_are_described_if_they_were_searched() -> None:
    shift = {"kind": "tsm", "fold": 8, "fill": "zero", "online": False}
    trial = history(trial_events(0, [0.5], 1.0, attention=[shift])).trials[0]

    trial.params = {"model.attention/tsm/fill": 0, "model.attention/tsm/online": 1}

    assert describe(trial) == "tsm f8 fill zero online no, T8"


def test_searched_values_are_read_from_the_config() -> None:
    # A ledger has indices of options: the frames' second option is 8, the mechanisms' third is tsm and tam.
    trial = history(
        trial_events(0, [0.5], 1.0, attention=[{"kind": "tsm", "alpha": 7}, TAM], backbone={"kind": "resnet"})
    ).trials[0]
    trial.params = {
        "model.frames": 1,
        "model.backbone": 0,
        "model.attention": 2,
        "model.attention/tsm+tam/tam.alpha": 0,
    }

    assert searched_values(trial) == {
        "attention": "tsm + tam", "model.frames": 8, "model.backbone": "resnet", "model.attention.tsm+tam.tam.alpha": 2
    }  # fmt: skip

    trial = history(trial_events(0, [0.5], 1.0)).trials[0]
    trial.params = {"model.attention/tam/alpha": 1, "model.attention/tam/stages": [0, 1, 2, 3]}
    expected = {"model.attention.tam.alpha": 2, "model.attention.tam.stages": [2, 3, 4, 5]}
    assert searched_values(trial) == {"attention": "tam"} | expected


def test_a_distillation_is_described_by_its_loss_and_the_file_of_the_teacher() -> None:
    trial = history(trial_events(0, [0.5], 1.0)).trials[0]
    trial.config["train"]["distill"] = {
        "teacher": {"model": {"frames": 8}}, "checkpoint": "/teachers/flow/model.pt", "loss": "mars", "weight": 5.0,
    }  # fmt: skip
    trial.params = {"train.distill": 1, "train.distill/1/weight": 5.0}

    assert describe(trial).endswith(", T8, distill mars of flow/model.pt, weight 5")
