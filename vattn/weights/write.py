"""Write a state dict with texts beside it, in a form that `vattn.weights.files` reads."""

from pathlib import Path

import torch

from vattn.files import replacing
from vattn.weights.state import State


def write_weights(state: State, metadata: dict[str, str], path: Path) -> None:
    """Write a file of safetensors or, if its name ends otherwise, of torch; ``path`` is complete or unchanged.

    Raises:
        OSError: it cannot be written.
    """
    # Some files hold one tensor under two names, or a view of a larger one.
    tensors = {name: value.clone(memory_format=torch.contiguous_format) for name, value in state.items()}
    with replacing(path) as part:
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file(tensors, part, metadata)
        else:
            torch.save({"state_dict": tensors, "metadata": metadata}, part)
