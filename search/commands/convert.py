"""`vattn convert`: bring published weights to the names of this package, with what they expect of pixels."""

import json
from argparse import Namespace
from pathlib import Path

import yaml

from search.spec.validation import load_config
from vattn.config import ModelConfig
from vattn.convert import adopt
from vattn.errors import UserError
from vattn.files import writing
from vattn.model import network_on_meta
from vattn.normalization import IMAGENET
from vattn.weights import Fit, read_checkpoint
from vattn.weights.families import recognise
from vattn.weights.infer import Inferred, infer
from vattn.weights.write import write_weights


def run(arguments: Namespace) -> None:
    """Convert the file that the command line names, and print what was taken and the config of its network."""
    convert(arguments.file, arguments.out, arguments.config)


def convert(file: Path, out: Path, config: Path | None = None) -> None:
    """Write the weights in ``file`` to ``out`` under the names of this package, and print the network's config.

    Args:
        file: published weights.
        out: the file to write; safetensors, or torch's format for a name that ends otherwise.
        config: a config whose model is that of the weights; None: it is inferred from their names and shapes.

    Raises:
        UserError: the weights are not the whole of a network that is known here, or ``out`` is ``file``.
        StorageError: the file cannot be written.
    """
    if out.exists() and file.exists() and out.samefile(file):
        raise UserError("must be another file than the one to convert", path="--out", found=out)
    recognised = recognise(read_checkpoint(file))
    found = _of_config(config) if config else infer(recognised)
    model = ModelConfig.parse(found.model)
    own = network_on_meta(model, found.classes).state_dict()
    adopted = adopt(recognised, model, own)
    if not (fit := Fit.of(adopted.state, own)):
        raise UserError(
            f"{file} is not converted, as it does not fit the network that its names are of "
            f"({recognised.family.name}): {fit}",
            way_out="name the file as it was published, or give the network with --config",
        )
    statistics = recognised.statistics or IMAGENET
    metadata = {
        "format": "vattn", "family": recognised.family.name, "source": file.name, "classes": str(found.classes),
        "model": json.dumps(found.model), "normalize": statistics.model_dump_json(),
    }  # fmt: skip
    with writing(out, "make room, or name another place with --out"):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_weights(adopted.state, metadata, out)
    taken = adopted.taken(adopted.state, own)
    print(taken)
    print(f"pixels: {statistics}")
    if found.assumed:
        print(f"not in the file, and assumed: {'; '.join(found.assumed)}")
    print(f"written to {out}, with {found.classes} classes; its network is")
    print(yaml.safe_dump({"model": found.model}, sort_keys=False).rstrip())


def _of_config(file: Path) -> Inferred:
    """Return the network of a config file."""
    trial = load_config(file)
    return Inferred(trial.model.without_weights().identity_tree(), trial.data.num_classes(), ())
