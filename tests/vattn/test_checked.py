"""Shapes in signatures are assertions while tests run."""

import pytest
import torch
from jaxtyping import TypeCheckError

from vattn.modules.tam import aggregate


def test_an_argument_with_another_shape_than_its_signature_says_is_an_error() -> None:
    with pytest.raises(TypeCheckError):
        aggregate(torch.zeros(2, 3), torch.zeros(4))
