"""`vattn cost`: print GFLOPs, parameters and memory of a config by stage."""

from argparse import Namespace

from search.spec.validation import load_config
from vattn.cost import render


def run(arguments: Namespace) -> None:
    """Print the cost of the model in the config file."""
    config = load_config(arguments.config, arguments.set)
    print(render(config.model, config.data.num_classes()))
