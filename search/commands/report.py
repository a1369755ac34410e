"""`vattn report`: the page that explains a search, as a file or on loopback, and its tables as files."""

from argparse import Namespace

from search.ledger.runs import open_folder
from search.report.clips.format import clip_files, read_test
from search.report.page.content import content
from search.report.page.files import read_content, write_page, write_tables
from search.report.page.serve import LivePage, serve
from vattn.errors import UserError


def run(arguments: Namespace) -> None:
    """Write the page, its tables, or serve it until interrupted."""
    if not (arguments.out or arguments.tables or arguments.serve):
        raise UserError(
            "has nothing to do", file="vattn report", way_out="give --out FILE.html, --tables DIR or --serve"
        )
    history, folder = open_folder(arguments.search)
    tests = [read_test(file) for file in arguments.tests or clip_files(folder)]
    if arguments.out or arguments.tables:
        shown = content(history, history.objectives, arguments.search, tests)
        if arguments.out:
            write_page(shown, arguments.out)
            print(f"page      {arguments.out}")
        if arguments.tables:
            print(f"tables    {len(write_tables(shown.all_tables, arguments.tables))} files in {arguments.tables}")
    if arguments.serve:
        serve(LivePage(folder, lambda: read_content(folder, arguments.search, tests)), arguments.port, arguments.search)
