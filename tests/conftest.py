"""What all tests share; helpers that tests import stand beside them (tests/vattn/support.py)."""

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

# jaxtyping evaluates the name of the checker, so its module must be imported first.
import tests.vattn.checked  # noqa: F401

# Torch warms up within the first example, so no single one may have a time limit.
settings.register_profile("vattn", deadline=None, max_examples=25)
settings.load_profile("vattn")
torch.set_num_threads(1)

# From here on the shapes in signatures are assertions.
install_import_hook("vattn", "tests.vattn.checked.checked")


def pytest_configure(config: pytest.Config) -> None:
    # Beartype checks an element at random; hypothesis seeds that too, and warns of it in every strategy.
    config.addinivalue_line("filterwarnings", "ignore:Do not use the `random` module inside strategies")
