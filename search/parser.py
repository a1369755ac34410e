"""The parser of the command line: as argparse's, and it suggests what a word with a typo was meant to be."""

import argparse
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class Parser(argparse.ArgumentParser):
    """A parser whose messages name the nearest command, option or choice."""

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]  # its overloads say no more
        self, args: Iterable[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Refuse unknown options here, where those of the command are known, not in the parser of all commands."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown and self._subparsers is None:
            options = [word.partition("=")[0] for word in unknown if word.startswith("-")]
            hints = [hint for option in options if (hint := did_you_mean(option, self._option_string_actions))]
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hints[0] if hints else ''}")
        return parsed, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        if isinstance(action, argparse._SubParsersAction):
            # Commands without help are not listed.
            listed = [choice.dest for choice in action._choices_actions]
            hint = did_you_mean(value, listed) or f"; there are {', '.join(listed)}"
            raise argparse.ArgumentError(None, f"there is no command {value!r}{hint}")
        choices = ", ".join(map(str, action.choices))
        hint = did_you_mean(str(value), map(str, action.choices))
        raise argparse.ArgumentError(action, f"must be one of {choices}{hint} (got {value!r})")


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return the suggestion of the nearest of ``words``, as the end of a message; empty if none is near."""
    close = get_close_matches(word, list(words), 1)
    return f"; did you mean {close[0]}?" if close else ""


def add_command(
    commands: "argparse._SubParsersAction", name: str, summary: str, module: str = ""
) -> argparse.ArgumentParser:
    """Add a command; return its parser. Its function ``run`` is in search/commands/, in ``module`` or else ``name``."""
    command = commands.add_parser(name, help=summary, description=summary)
    command.set_defaults(command=module or name)
    return command


def add_set(command: argparse.ArgumentParser) -> None:
    """Add the option ``--set`` to a command."""
    command.add_argument("--set", action="append", default=[], metavar="A.B=V", help="change a value of the file")


def complete(argument: argparse.Action, completion: Any) -> None:
    """Let the shell complete an argument with names of files (`shtab.FILE`) or folders (`shtab.DIRECTORY`)."""
    setattr(argument, "complete", completion)  # noqa: B010  # shtab reads this attribute; argparse's types lack it


def whole_number(text: str) -> int:
    """Return a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number (got {text!r})") from None


def positive_int(text: str) -> int:
    """Return a whole number of at least 1."""
    number = whole_number(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 (got {number})")
    return number


def worker_range(text: str) -> tuple[int, int]:
    """Return fewest and most workers of "4" or "2-8"."""
    match = re.fullmatch(r"(\d+)-(\d+)", text)
    if match is None:
        number = positive_int(text)
        return number, number
    least, most = map(positive_int, match.groups())
    if most < least:
        raise argparse.ArgumentTypeError(f"the second number must be at least the first (got {text})")
    return least, most


def non_negative_int(text: str) -> int:
    """Return a whole number of at least 0."""
    number = whole_number(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0 (got {number})")
    return number


def non_negative_float(text: str) -> float:
    """Return a number of at least 0."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number (got {text!r})") from None
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be at least 0 (got {text})")
    return number
