"""`vattn motion`: generate the motion data set."""

from argparse import Namespace

from pydantic import ValidationError

from search.report.live.progress import progress
from search.spec.messages import SpecError, problems
from vattn.data.layouts.motion import MotionDataConfig, generate

#: options of the command, named as the fields of `MotionDataConfig`
OPTIONS = ("train_clips", "val_clips", "test_clips", "frames", "size", "seed")


def run(arguments: Namespace) -> None:
    """Generate the data set; raise SpecError if an option is out of bounds."""
    options = {name: value for name in OPTIONS if (value := getattr(arguments, name)) is not None}
    try:
        config = MotionDataConfig.parse({"kind": "motion", **options})
    except ValidationError as error:
        lines = problems(error, MotionDataConfig, options)
        raise SpecError([f"vattn motion: --{line}".replace("_", "-", 1) for line in lines]) from None
    generate(config, arguments.out, progress=progress)
    print(f"the motion set is in {arguments.out}")
