"""Tables of benchmarks, in Markdown, printed row by row."""


def row(*cells: object) -> None:
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def table(*columns: str) -> None:
    print()
    row(*columns)
    row(*["---"] * len(columns))
