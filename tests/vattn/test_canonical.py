"""Recipes of one thing have one form, and only they."""

from hypothesis import given
from hypothesis import strategies as st

from tests.vattn.support import model
from vattn.canonical import architecture_id, canonical_model
from vattn.config import ModelConfig
from vattn.cost import cost
from vattn.modules import ModuleConfig, Site

TAM, TSM = {"kind": "tam"}, {"kind": "tsm"}


def meets(network: ModelConfig) -> list[tuple[Site, list[ModuleConfig]]]:
    """What data meets: at each site, the mechanisms in order, without where they are put."""
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
    same = canonical_model(network)

    assert meets(same) == meets(network)
    assert (cost(same, 5).macs, cost(same, 5).params) == (cost(network, 5).macs, cost(network, 5).params)
    assert canonical_model(same) == same
    assert ModelConfig.parse(same.tree()) == same


@given(one=networks(), other=networks())
def test_two_networks_have_one_identity_exactly_where_data_meets_the_same(one: ModelConfig, other: ModelConfig) -> None:
    same = one.backbone == other.backbone and meets(one) == meets(other)

    assert (architecture_id(one) == architecture_id(other)) == same


def test_mechanisms_without_a_stage_are_gone() -> None:
    assert canonical_model(model(TAM | {"stages": []})) == model()


def test_every_is_the_smallest_that_chooses_the_same_blocks() -> None:
    # Depth 50 has 3, 4, 6, 3 blocks: every 5 takes the first of each, and the sixth of stage 4.
    assert canonical_model(model(TAM | {"every": 9}, depth=10)) == model(TAM, depth=10)
    assert canonical_model(model(TAM | {"every": 9, "stages": [2]}, depth=50)).attention[0].every == 3
    assert canonical_model(model(TAM | {"every": 9}, depth=50)).attention[0].every == 6
    assert canonical_model(model(TAM | {"every": 5}, depth=50)).attention[0].every == 5


def test_order_counts_only_at_shared_sites() -> None:
    def same(*pair: dict) -> bool:
        return architecture_id(model(*pair)) == architecture_id(model(*reversed(pair)))

    assert same(TAM | {"position": "a"}, TSM | {"position": "b"})
    assert same(TAM | {"stages": [2, 3]}, TSM | {"stages": [4, 5], "position": "b"})
    assert not same(TAM | {"stages": [2, 3]}, TSM | {"stages": [3, 4], "position": "b"})


def test_one_mechanism_in_two_entries_is_one() -> None:
    halves = TAM | {"stages": [2, 4]}, TAM | {"stages": [3, 5]}

    assert canonical_model(model(*halves)) == model(TAM)


def test_what_stands_twice_at_a_site_stays_twice() -> None:
    assert canonical_model(model(TAM, TAM)) == model(TAM, TAM)


def test_options_without_effect_make_no_difference() -> None:
    assert architecture_id(model(TAM | {"local_kernel_size": 3})) == architecture_id(model(TAM))
    assert architecture_id(model(TAM | {"local_kernel_size": 5})) != architecture_id(model(TAM))
    assert architecture_id(model(TAM | {"branches": "global", "beta": 8})) == architecture_id(
        model(TAM | {"branches": "global"})
    )
