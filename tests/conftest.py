"""Settings and fixtures of all tests; helpers that tests import are modules beside them (tests/vattn/support.py)."""

import jaxtyping
import pytest
import torch
from hypothesis import register_random, settings

# jaxtyping evaluates the name of the checker, so its module must be imported first.
import tests.vattn.checked

# Torch initialises within the first example, so no single example may have a time limit.
settings.register_profile("vattn", deadline=None, max_examples=25)
settings.load_profile("vattn")
torch.set_num_threads(1)


class TorchRandom:
    """Torch's global generator, in the form in which hypothesis seeds it before each example.

    So an example that failed draws the same tensors when hypothesis repeats it.
    """

    def seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def getstate(self) -> torch.Tensor:
        return torch.get_rng_state()

    def setstate(self, state: torch.Tensor) -> None:
        torch.set_rng_state(state)


# Hypothesis keeps a weak reference only.
torch_random = TorchRandom()
register_random(torch_random)

# From here on the shapes in signatures are assertions.
setattr(jaxtyping, "jaxtyped", tests.vattn.checked.jaxtyped_if_shaped)  # noqa: B010
jaxtyping.install_import_hook("vattn", "tests.vattn.checked.checked")


def pytest_configure(config: pytest.Config) -> None:
    # Beartype checks a random element; hypothesis seeds that too, and warns about it in every strategy.
    config.addinivalue_line("filterwarnings", "ignore:Do not use the `random` module inside strategies")


@pytest.fixture(autouse=True)
def fixed_torch_seed() -> None:
    """Seed torch before each test, so that a test draws the same numbers whatever ran before it."""
    torch.manual_seed(0)
