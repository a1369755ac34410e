"""A search by hand whose front was confirmed."""

import pytest

from tests.search.report.ledgers import Trees, retrainings, trial, without


@pytest.fixture
def confirmed(events: Trees) -> Trees:
    """Of 0 and 1, the front, and of its near miss 5, the means over fresh seeds are 0.4, 0.4 and 0.6; 6 has none."""
    return [
        *without(events, 4), *trial(4, 0.9, 0.1, 0.2), *trial(5, 0.5, 0.1, 0.45), *trial(6, 0.6, 0.1, 0.3),
        *retrainings(7, 0, 0.2, 0.42, 0.38), *retrainings(9, 1, 0.4, 0.41, 0.39),
        *retrainings(11, 5, 0.5, 0.61, 0.59),
    ]  # fmt: skip
