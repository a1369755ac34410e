"""`vattn explain`: draw what a trained model looks at in a video."""

from argparse import Namespace

from search.spec.validation import load_config
from vattn.explain import explain, load_trained


def run(arguments: Namespace) -> None:
    """Draw the pictures and print the names of their files."""
    model = load_trained(load_config(arguments.config, arguments.set), arguments.checkpoint)
    comparison = load_trained(load_config(arguments.i3d[0]), arguments.i3d[1]) if arguments.i3d else None
    for file in explain(model, arguments.video, arguments.out, comparison):
        print(file)
