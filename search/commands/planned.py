"""Commands that are not implemented yet."""

from argparse import Namespace

from vattn.errors import UserError


def run(arguments: Namespace) -> None:
    """Raise UserError with the name of the command."""
    raise UserError("not available yet", file=f"vattn {arguments.name}")
