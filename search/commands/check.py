"""`vattn check`: validate a spec, and print the size of its space, its cost range and its budget."""

import json
from argparse import Namespace

from search.commands._spec import spec_file
from search.proposals.warm_start import read_sources
from search.report.tables.check import as_tree, render
from search.report.tables.data import data_tree, render_data
from search.report.wording.earlier_searches import describe_source
from search.spec.check import check
from search.spec.data import check_data
from search.spec.validation import load
from vattn.data import listed


def run(arguments: Namespace) -> None:
    """Print what can be computed before a search starts, and its warm-start sources; raise SpecError for a bad spec."""
    spec = load(spec_file(arguments.spec), arguments.set)
    checked, sources = check(spec), read_sources(spec)
    data = None
    if not spec.data.awaits_files:
        files = listed(spec.data, spec.output_dir(), test=spec.search.confirm != "none", generate=False)
        _, _, data = check_data(spec, files)
    earlier = [describe_source(source) for source in sources]
    if arguments.json:
        tree = None if data is None else data_tree(data)
        print(json.dumps(as_tree(checked) | {"data": tree, "warm_start": earlier}, indent=2))
        return
    print(render(checked))
    for source in earlier:
        print(f"warm start     {source}")
    if data is None:
        print(
            f"\ndata           not checked: {spec.data.root} does not exist; it is taken to have {spec.classes} classes"
        )
    else:
        print(f"\n{render_data(data)}")
