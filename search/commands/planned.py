"""Commands of the interface that are not built yet."""

from argparse import Namespace

from vattn.errors import UserError


def run(arguments: Namespace) -> None:
    """Raise UserError: a planned command is refused, never ignored."""
    raise UserError("not available yet", file=f"vattn {arguments.name}")
