"""`vattn check`: validate a spec, and print the size of its space, its cost range and its budget."""

from argparse import Namespace

from search.commands._spec import spec_file
from search.proposals.warm_start import read_sources
from search.report.tables.check import render
from search.report.wording.earlier_searches import describe_source
from search.spec.check import check
from search.spec.validation import load


def run(arguments: Namespace) -> None:
    """Print what can be computed before a search starts, and its warm-start sources; raise SpecError for a bad spec."""
    spec = load(spec_file(arguments.spec), arguments.set)
    checked, sources = check(spec), read_sources(spec)
    print(render(checked))
    for source in sources:
        print(f"warm start     {describe_source(source)}")
