"""Put what a page shows into one HTML file."""

import json
from collections.abc import Sequence
from html import escape as _escape
from pathlib import Path

from search.report.page.content import Content
from search.report.page.table import Table

_STATIC = Path(__file__).parent / "static"
#: scripts of all pages, in the order in which they need each other
_SCRIPTS = (
    "base.js",
    "chart.js",
    "select.js",
    "front.js",
    "difference.js",
    "clips.js",
    "course.js",
    "parallel.js",
    "main.js",
)

#: title and introduction of each section, in the order in which a supervisor asks
_SECTIONS = {
    "answer": ("In short", ""),
    "front": ("The front", "Accuracy against cost. Every run is a point; those stopped early are hollow, at their last "
              "measured value. Bars are 95 % intervals."),
    "difference": ("What made the difference", "For each choice of the space: how much higher the front of the runs "
                   "with one option lies than that of other runs, at equal cost: the best run with the option that "
                   "needs at most that cost, against the best such run without it, averaged over the costs that both "
                   "sides have."),
    "importance": ("Importance on the front", "Which choices decide whether a run is near the front (PED-ANOVA). It "
                   "does not say which option is better."),
    "ablation": ("Ablation tables", "In the form of the papers. Runs differ in other settings too, so read a cell with "
                 "its number of runs and its interval."),
    "classes": ("By class and by length", "Which classes and which lengths of video a model gets right."),
    "course": ("How the search went", "The hypervolume is the area between the front and its reference point: it grows "
               "whenever the front gets better."),
    "compute": ("Where the compute went", ""),
    "runs": ("All runs", ""),
    "next": ("What to try next", ""),
}  # fmt: skip


def page(content: Content, version: str | None = None) -> str:
    """Return the page as HTML.

    ``version`` names the state of a search that is running: the page then asks its server for a newer one.
    """
    data = content.data | {"name": content.name, "version": version}
    if not content.only_front:
        data["tables"] = {table.name: [table.title, table.csv(), table.latex()] for table in content.all_tables}
    # No text of a ledger may end the script.
    embedded = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    wanted = ("answer", "front") if content.only_front else tuple(_SECTIONS)
    sections = "".join(_section(name, content) for name in wanted)
    links = "".join(f'<li><a href="#{name}">{escape(_SECTIONS[name][0])}</a></li>' for name in wanted)
    scripts = "\n".join(_read(name) for name in _SCRIPTS)
    parts = {
        "TITLE": escape(f"{content.name}: report of a search"),
        "NAME": escape(content.name),
        "STATE": escape(content.state),
        "FACTS": " · ".join(map(escape, content.facts)),
        "STYLE": _read("page.css"),
        "LINKS": links,
        "SECTIONS": sections,
        "DATA": embedded,
        "SCRIPTS": scripts,
    }
    # One pass over the skeleton, so that a text with the name of a part is not replaced.
    pieces = _read("page.html").split("@@")
    return "".join(parts[piece] if n % 2 else piece for n, piece in enumerate(pieces))


def escape(text: str) -> str:
    """Return text as HTML, in which no line ends between a number and its percent sign."""
    return _escape(text).replace(" %", "&nbsp;%")


def _read(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8")


def _section(name: str, content: Content) -> str:
    title, intro = _SECTIONS[name]
    body = [f"<p class=intro>{escape(intro)}</p>"] if intro else []
    if warning := content.warnings.get(name):
        body.append(f'<p class="warning"><strong>Note.</strong> {escape(warning)}</p>')
    match name:
        case "answer":
            body += [_cards(content), _answers(content.answers)]
        case "front":
            body.append(_figure("front-figure", "Accuracy against cost"))
            if pairs := content.data["fronts"]:
                labels = {pair["cost"]: content.data["costs"][pair["cost"]] for pair in pairs}
                figures = (_figure(f"front-{name}-figure", f"The front by {label}") for name, label in labels.items())
                body.append(f'<div class="pair">{"".join(figures)}</div>')
        case "difference":
            body += [_figure("gains-figure", "Gain of each option at equal cost"),
                     _figure("options-figure", "The fronts of the options of one choice")]  # fmt: skip
        case "importance":
            body.append(_figure("importance-figure", "Importance of each choice"))
        case "classes":
            if clips := content.data.get("clips"):
                body += [_figure("class-gains-figure", clips["title"])] if clips["gains"] else []
                body += [_figure("lengths-figure", "Accuracy by length of the video")] if clips["lengths"] else []
        case "course":
            body += [_figure("hypervolume-figure", "Hypervolume of the front"),
                     _figure("curves-figure", "Learning curves; a cross is where a run was stopped"),
                     _figure("timeline-figure", "Which runs trained at the same time")]  # fmt: skip
        case "compute":
            body.append(_figure("compute-figure", "Training time by purpose"))
        case "runs":
            body.append(_figure("parallel-figure", "Each run is a line through its values; dotted where a range is not "
                                "part of the model"))  # fmt: skip
        case "next":
            body.append(_advice(content))
    body += _tables(name, content.tables.get(name, []))
    head = f'<section id="{name}" aria-labelledby="h-{name}"><h2 id="h-{name}">{escape(title)}</h2>'
    return f"{head}{''.join(body)}</section>"


def _figure(name: str, title: str) -> str:
    return f'<figure id="{name}" data-title="{escape(title)}"><figcaption>{escape(title)}</figcaption></figure>'


def _cards(content: Content) -> str:
    cards = "".join(
        f'<div class="card"{"" if card.trial is None else f" data-trial={card.trial}"}><h3>{escape(card.label)}</h3>'
        f"<p class=value>{escape(card.value)}</p><p>{escape(card.detail)}</p></div>"
        for card in content.cards
    )
    return f'<div class="cards">{cards}</div>'


def _answers(answers: Sequence[tuple[str, str]]) -> str:
    return (
        "<dl>"
        + "".join(f"<dt>{escape(word)}</dt><dd>{escape(text).replace(chr(10), '<br>')}</dd>" for word, text in answers)
        + "</dl>"
    )


def _advice(content: Content) -> str:
    steps = "".join(
        f"<li><strong>{escape(step.what)}</strong> {escape(step.why)}"
        + (f'<pre tabindex="0"><code>{escape(step.command)}</code></pre>' if step.command else "")
        + "</li>"
        for step in content.advice
    )
    note = "SPEC is the file that the search was run with." if "SPEC" in steps else ""
    return (
        f"<ol class=advice>{steps}</ol><p class=note>{note}</p>" if steps else "<p>Nothing: no run has ended yet.</p>"
    )


def _tables(section: str, tables: Sequence[Table]) -> list[str]:
    if section == "classes" and not tables:
        return [
            "<p>A ledger has accuracies of whole splits only. To see classes and lengths here, test models clip "
            "by clip and name the files; with files of the same model on shuffled or frozen frames, these "
            "stand beside it:</p>"
            '<pre tabindex="0"><code>vattn test best.yaml --checkpoint model.pt --frames normal shuffled frozen '
            "--out tests\n"
            "vattn report RUN --tests tests/*.parquet --out report.html</code></pre>"
        ]
    if section == "ablation" and not tables:
        return ["<p>No setting of a model has several values in this space.</p>"]
    if section == "runs":
        return ['<div id="runs-table"></div>'] if tables else []
    # Tables that say the same as a drawing, or more than one asks for at first, are folded.
    opened = {"difference": 0, "importance": 0, "compute": 0, "classes": 1}.get(section, len(tables))
    html = [table.html() for table in tables]
    folded = "".join(html[opened:])
    details = f"<details><summary>The numbers as tables</summary>{folded}</details>" if folded else ""
    return [*html[:opened], details]
