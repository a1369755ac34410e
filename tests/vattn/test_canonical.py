"""Configs of the same network have the same canonical form, and configs of different networks do not."""

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
