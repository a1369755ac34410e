"""`vattn explain`: draw what a trained model looks at in a video."""

from argparse import Namespace

from search.spec.validation import load_config
from vattn.explain import explain, load_trained
from vattn.explain.detection import explain_detection


def run(arguments: Namespace) -> None:
    """Draw the pictures and print the names of their files."""
    model = load_trained(load_config(arguments.config, arguments.set), arguments.checkpoint)
    if model.config.task == "detection":
        for file in explain_detection(model, arguments.video, arguments.out):
            print(file)
        return
    comparison = load_trained(load_config(arguments.i3d[0]), arguments.i3d[1]) if arguments.i3d else None
    for file in explain(model, arguments.video, arguments.out, comparison):
        print(file)
