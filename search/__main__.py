"""`python -m search` is `vattn`."""

import os
import sys

from search.cli import main

if __name__ == "__main__":
    # `search.commands.supervise` tells so an end of the command from one of the process.
    sys.exit(main() + int(os.environ.get("VATTN_STATUS_OFFSET", "0")))
