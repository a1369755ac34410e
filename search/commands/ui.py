"""`vattn ui`: serve MLflow's page for a search on loopback."""

from argparse import Namespace

from search.report.tracking.server import serve


def run(arguments: Namespace) -> int:
    """Serve until interrupted; return the exit status."""
    return serve(arguments.search, arguments.port, arguments.tracking)
