"""`vattn motion`: generates the motion data set."""

from argparse import Namespace

from pydantic import ValidationError

from search.report.live.progress import progress
from search.spec.messages import SpecError, problems
from vattn.data.layouts.motion import MotionDataConfig, generate

#: options of the command, which are fields of the config
OPTIONS = ("train_clips", "val_clips", "test_clips", "frames", "size", "seed")


def run(arguments: Namespace) -> None:
    """Generate the set; raises SpecError where an option is out of bounds."""
    given = {name: value for name in OPTIONS if (value := getattr(arguments, name)) is not None}
    try:
        config = MotionDataConfig.parse({"kind": "motion", **given})
    except ValidationError as error:
        wrong = problems(error, MotionDataConfig, given)
        raise SpecError([f"vattn motion: --{problem}".replace("_", "-", 1) for problem in wrong]) from None
    generate(config, arguments.out, progress=progress)
    print(f"the motion set is in {arguments.out}")
