"""Configs of the same network have the same canonical form, and configs of different networks do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vattn.support import model
from vattn.canonical import architecture_id, canonical_model, trial_id
from vattn.config import ModelConfig, TrialConfig
from vattn.cost import cost
from vattn.modules import ModuleConfig, Site

TAM, TSM = {"kind": "tam"}, {"kind": "tsm"}


def mechanisms_by_site(network: ModelConfig) -> list[tuple[Site, list[ModuleConfig]]]:
    """Return each site with its mechanisms in order, without their stages."""
    return [
        (
            site,
            [
                m.canonical().model_copy(update={"stages": (), "every": 1})
                for m in network.attention
                if site in m.at(network.backbone.sites(network.size))
            ],
        )
        for site in network.backbone.sites(network.size)
    ]


@st.composite
def networks(draw: st.DrawFn) -> ModelConfig:
    mechanism = st.sampled_from([TAM, TSM, TAM | {"branches": "global", "beta": 2}, TAM | {"branches": "global"}])
    places = st.fixed_dictionaries(
        {
            "position": st.sampled_from(["a", "b"]),
            "stages": st.lists(st.sampled_from([2, 3, 4]), unique=True),
            "every": st.integers(1, 7),
        }
    )
    attention = [draw(mechanism) | draw(places) for _ in range(draw(st.integers(0, 4)))]
    return model(*attention, depth=draw(st.sampled_from([10, 18, 50])))


@given(network=networks())
def test_the_canonical_form_is_the_same_network(network: ModelConfig) -> None:
    canonical = canonical_model(network)

    assert mechanisms_by_site(canonical) == mechanisms_by_site(network)
    assert (cost(canonical, 5).macs, cost(canonical, 5).params) == (cost(network, 5).macs, cost(network, 5).params)
    assert canonical_model(canonical) == canonical
    assert ModelConfig.parse(canonical.tree()) == canonical


@given(first=networks(), second=networks())
def test_two_networks_have_the_same_identity_exactly_if_they_have_the_same_mechanisms_at_each_site(
    first: ModelConfig, second: ModelConfig
) -> None:
    same = first.backbone == second.backbone and mechanisms_by_site(first) == mechanisms_by_site(second)

    assert (architecture_id(first) == architecture_id(second)) == same


def test_mechanisms_without_a_stage_are_removed() -> None:
    assert canonical_model(model(TAM | {"stages": []})) == model()


def test_every_is_the_smallest_value_that_selects_the_same_blocks() -> None:
    # Depth 50 has 3, 4, 6 and 3 blocks: every 5 selects the first of each stage, and the sixth of stage 4.
    assert canonical_model(model(TAM | {"every": 9}, depth=10)) == model(TAM, depth=10)
    assert canonical_model(model(TAM | {"every": 9, "stages": [2]}, depth=50)).attention[0].every == 3
    assert canonical_model(model(TAM | {"every": 9}, depth=50)).attention[0].every == 6
    assert canonical_model(model(TAM | {"every": 5}, depth=50)).attention[0].every == 5


def test_order_matters_only_at_shared_sites() -> None:
    def same(*pair: dict) -> bool:
        return architecture_id(model(*pair)) == architecture_id(model(*reversed(pair)))

    assert same(TAM | {"position": "a"}, TSM | {"position": "b"})
    assert same(TAM | {"stages": [2, 3]}, TSM | {"stages": [4, 5], "position": "b"})
    assert not same(TAM | {"stages": [2, 3]}, TSM | {"stages": [3, 4], "position": "b"})


def test_two_entries_of_one_mechanism_are_merged() -> None:
    halves = TAM | {"stages": [2, 4]}, TAM | {"stages": [3, 5]}

    assert canonical_model(model(*halves)) == model(TAM)


def test_a_mechanism_that_is_twice_at_a_site_stays_twice() -> None:
    assert canonical_model(model(TAM, TAM)) == model(TAM, TAM)


def test_options_without_effect_do_not_change_the_identity() -> None:
    assert architecture_id(model(TAM | {"local_kernel_size": 3})) == architecture_id(model(TAM))
    assert architecture_id(model(TAM | {"local_kernel_size": 5})) != architecture_id(model(TAM))
    assert architecture_id(model(TAM | {"branches": "global", "beta": 8})) == architecture_id(
        model(TAM | {"branches": "global"})
    )


def test_where_frames_lie_is_no_part_of_an_identity() -> None:
    def identity_with(**data: object) -> str:
        return trial_id(TrialConfig.parse({
            "data": {"kind": "motion"} | data,
            "model": {
                "frames": 4, "size": 32, "backbone": {"kind": "resnet", "depth": 10}, "attention": [{"kind": "tsm"}],
            },
            "train": {"epochs": 2, "batch": 4, "lr": 0.05},
        }))  # fmt: skip

    # The identity that this config had before the keys local and resident existed.
    assert identity_with() == "ef93efae38f06963"
    for places in (
        {"local": "/scratch"},
        {"resident": True},
        {"resident": False},
        {"cache": "/caches", "root": "/data"},
    ):
        assert identity_with(**places) == "ef93efae38f06963"
    assert identity_with(seed=1) != "ef93efae38f06963"


def evaluated(**data: object) -> TrialConfig:
    return TrialConfig.parse({
        "data": {"kind": "motion"} | data,
        "model": {
            "frames": 4, "size": 32, "backbone": {"kind": "resnet", "depth": 10},
            "attention": [{"kind": "tsm", "stages": [3]}],
        },
        "train": {"epochs": 2, "batch": 4, "lr": 0.05},
    })  # fmt: skip


def test_equal_ways_to_write_the_views_are_one_trial() -> None:
    plain = trial_id(evaluated())

    # The size of the training; the shorter side as stored (80 pixels).
    assert trial_id(evaluated(views={"size": 32})) == trial_id(evaluated(views={"short": 80})) == plain
    assert len({plain, *(trial_id(evaluated(views=views)) for views in ({"size": 64}, {"short": 40}))}) == 3


def test_the_single_clip_of_segments_is_the_same_in_the_protocols_that_follow_tsn() -> None:
    protocols = ("auto", "tsm", "tsn", "tanet", "tdn", "slowfast")
    identities = {name: trial_id(evaluated(sampling={"protocol": name})) for name in protocols}

    assert identities["tsm"] == identities["tsn"] == identities["tanet"]
    assert len({*identities.values()}) == 4
    two = [trial_id(evaluated(sampling={"protocol": name}, views={"clips": 2})) for name in ("tsm", "tanet")]
    assert two[0] != two[1]


def test_a_network_is_evaluated_at_another_size_only_if_its_weights_do_not_depend_on_it() -> None:
    assert evaluated(views={"size": 64}).model.at(64).size == 64
    tree = evaluated(views={"size": 64}).tree()
    sta = tree["model"] | {"backbone": {"kind": "r3d"}, "attention": [{"kind": "sta", "stages": [3]}]}
    with pytest.raises(ValueError, match=r"data\.views\.size: the weights of this network depend on the size"):
        TrialConfig.parse(tree | {"model": sta})
    inception = tree["model"] | {"backbone": {"kind": "inception_v3"}, "size": 75}
    with pytest.raises(ValueError, match=r"data\.views\.size: size: inception_v3 takes images of 75 pixels"):
        TrialConfig.parse(tree | {"model": inception})


def test_frames_are_never_enlarged_to_the_views() -> None:
    with pytest.raises(ValueError, match=r"data\.views\.short: must be at least the side of the crops, 32 \(got 24\)"):
        evaluated(views={"short": 24})
    with pytest.raises(ValueError, match=r"views\.short: must be at most store\.size, 80"):
        evaluated(views={"short": 96})
