"""MkDocs hooks: fill in what is generated, and turn equations into MathML, so that no script is needed to show them."""

import html
import re
from functools import cache
from os.path import relpath
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from matplotlib import get_data_path
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from docs.tools import reference

ROOT = Path(__file__).resolve().parents[2]
#: The STIX font, which matplotlib brings. It has no table of mathematical constants, so a browser uses its own. The
#: constants of DejaVu, which a browser takes on many Linux machines, do not lower subscripts.
FONT = Path(get_data_path()) / "fonts" / "ttf" / "STIXGeneral.ttf"
#: ``<!-- NAME: ARGUMENTS -->`` on a line of its own is replaced by what `GENERATORS[NAME]` returns.
PLACEHOLDER = re.compile(r"^<!-- (\w+): ?(.*?) ?-->$", re.MULTILINE)
#: A link to the table of a config class, as `reference.value_type` writes it.
CONFIG_LINK = re.compile(r"\]\(config:([\w-]+)\)")
EQUATION = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a font for equations, for machines without a mathematical font."""
    files.append(File.generated(config, f"assets/{FONT.name}", abs_src_path=str(FONT)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace placeholders by generated tables, and drop the notes to the tests of code blocks."""
    generated = PLACEHOLDER.sub(lambda found: _generated(found[1], found[2].split()), markdown)
    here = Path(page.file.src_uri).parent
    return CONFIG_LINK.sub(lambda found: f"]({relpath(config_pages()[found[1]], here)}#fields-{found[1]})", generated)


@cache
def config_pages() -> dict[str, str]:
    """Return the page that has the table of each config class, by its key."""
    pages: dict[str, str] = {}
    for path in sorted((ROOT / "docs").rglob("*.md")):
        for found in PLACEHOLDER.finditer(path.read_text(encoding="utf-8")):
            if found[1] == "fields":
                name = reference.config_key(reference.config_class(*found[2].split()))
                pages.setdefault(name, path.relative_to(ROOT / "docs").as_posix())
    return pages


def on_page_content(content: str, **_: Any) -> str:
    """Replace LaTeX by MathML."""
    return EQUATION.sub(_equation, content)


def _generated(name: str, arguments: list[str]) -> str:
    match name:
        case "fields":
            config = reference.config_class(*arguments)
            return f'<a id="fields-{reference.config_key(config)}"></a>\n\n{reference.fields_table(config)}'
        case "facts":
            return reference.facts_table(arguments[0])
        case "commands":
            return reference.commands_text()
        case "decisions":
            return decisions_table()
        case "file":
            path = ROOT / arguments[0]
            return f"```{path.suffix[1:]}\n{path.read_text(encoding='utf-8').rstrip()}\n```"
        case "test":
            return ""
    raise ValueError(f"no generator is called {name}")


def decisions_table() -> str:
    """Return a table of the decisions, the newest first: date and title."""
    lines = ["| date | decision |", "| --- | --- |"]
    titles = {
        path.name: path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        for path in (ROOT / "docs" / "decisions").glob("2*.md")
    }
    for date in sorted({name[:10] for name in titles}, reverse=True):
        of_day = sorted((title, name) for name, title in titles.items() if name.startswith(date))
        lines += [f"| `{date}` | [{title}]({name}) |" for title, name in of_day]
    return "\n".join(lines)


def _equation(found: re.Match[str]) -> str:
    latex = html.unescape(found[2]).strip()
    inline = latex.startswith(r"\(")
    mathml = convert(latex[2:-2].strip(), display="inline" if inline else "block")
    return mathml if inline else f'<div class="equation" data-search-exclude>{mathml}</div>'
