"""The space of TAM's Table 5: each network is a row of the table, with the number of TA-blocks in the paper."""

from collections import Counter
from pathlib import Path

import pytest

import spaces
from search.spec.validation import load
from vattn.canonical import architecture_id
from vattn.config import ModelConfig
from vattn.cost import cost


@pytest.fixture(scope="module")
def networks() -> list[ModelConfig]:
    spec = load(Path(spaces.__file__).parent / "library" / "tam_table5.yaml")
    return [ModelConfig.parse(tree["model"]) for _, tree in spec.space.enumerate()]


def blocks(network: ModelConfig) -> Counter[str]:
    sites = network.backbone.sites(network.size)
    return Counter(site.position for module in network.attention for site in module.at(sites))


def test_each_network_has_the_number_of_ta_blocks_in_the_paper(networks: list[ModelConfig]) -> None:
    # A ResNet-50 has 3, 4, 6 and 3 blocks: res5 alone 3, res4-5 9, res3-5 13, res2-5 16.
    assert [blocks(network) for network in networks] == [
        {"b": 3}, {"b": 3 + 6}, {"b": 3 + 6 + 4}, {"b": 3 + 6 + 4 + 3}, {"a": 16}, {"c": 16}, {"d": 16},
    ]  # fmt: skip


def test_all_networks_are_distinct_and_more_blocks_cost_more(networks: list[ModelConfig]) -> None:
    costs = [cost(network, 16).macs for network in networks[:4]]

    assert len({architecture_id(network) for network in networks}) == 7
    assert costs == sorted(costs)
