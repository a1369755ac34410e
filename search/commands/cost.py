"""`vattn cost`: print GFLOPs, parameters and memory of a config by stage."""

from argparse import Namespace

from search.commands._spec import config_file, data_overrides
from search.spec.validation import load_config
from vattn.cost import render, render_video
from vattn.training import memory


def run(arguments: Namespace) -> None:
    """Print the cost of the model in the config file."""
    config = load_config(config_file(arguments.config), data_overrides(arguments))
    classes = config.data.num_classes()
    print(render(config.model, classes))
    print(render_video(config.model, config.data.views, classes))
    print(memory.render_size(config.model, classes))
    print(memory.render(config, classes))
