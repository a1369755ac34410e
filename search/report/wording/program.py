"""The command by which a user can call this program again."""

import shutil
import sys
from pathlib import Path


def program() -> str:
    """Return the command for this program in the current folder: ``vattn``, a path to it, or ``python -m search``."""
    if shutil.which("vattn"):
        return "vattn"
    script = Path(sys.executable).with_name("vattn")
    if not script.exists():
        return "python -m search"
    return str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script)
