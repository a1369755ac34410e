"""A small language for diagrams: boxes on a grid and arrows between them, drawn as SVG."""

from typing import Literal, NamedTuple
from xml.sax.saxutils import escape

#: Distance of two columns and of two rows, pixels.
COLUMN = 132
ROW = 66
#: Space around the drawing, pixels.
MARGIN = 14
#: Height of a line of text, and width of a character, pixels.
LINE = 15
CHARACTER = 7.1
#: Radius of a circle that stands for an operation, pixels.
RADIUS = 13

Style = Literal["data", "layer", "gate", "operation"]
#: Fill and border of each style of node.
COLOURS: dict[Style, tuple[str, str]] = {
    "data": ("#eceff1", "#607d8b"),
    "layer": ("#e3f2fd", "#1e6fb8"),
    "gate": ("#fff3e0", "#c77700"),
    "operation": ("#ffffff", "#37474f"),
}


class Node(NamedTuple):
    """A box, or a circle for an operation, at a column and a row of the grid."""

    column: float
    row: float
    text: str
    style: Style = "layer"

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the node, pixels from the first column and row."""
        return self.column * COLUMN, self.row * ROW

    @property
    def size(self) -> tuple[float, float]:
        """Width and height, pixels."""
        if self.style == "operation":
            return 2 * RADIUS, 2 * RADIUS
        lines = self.text.split("\n")
        return max(36, CHARACTER * max(map(len, lines)) + 14), LINE * len(lines) + 12


class Edge(NamedTuple):
    """An arrow. ``bend``: straight, or first horizontal then vertical (hv), or the other way round (vh)."""

    start: str
    end: str
    bend: Literal["", "hv", "vh"] = ""
    label: str = ""


class Figure(NamedTuple):
    """The diagram of one mechanism."""

    title: str
    nodes: dict[str, Node]
    edges: list[Edge]


def data(column: float, row: float, text: str) -> Node:
    """Return a node for features."""
    return Node(column, row, text, "data")


def gate(column: float, row: float, text: str) -> Node:
    """Return a node for gates, weights or kernels that are predicted from the features."""
    return Node(column, row, text, "gate")


def operation(column: float, row: float, text: str) -> Node:
    """Return a circle with the sign of an operation."""
    return Node(column, row, text, "operation")


def svg(figure: Figure) -> str:
    """Return a diagram as the text of an SVG file."""
    boxes = [(*node.centre, *node.size) for node in figure.nodes.values()]
    left = min(x - w / 2 for x, _, w, _ in boxes) - MARGIN
    top = min(y - h / 2 for _, y, _, h in boxes) - MARGIN
    width = max(x + w / 2 for x, _, w, _ in boxes) + MARGIN - left
    height = max(y + h / 2 for _, y, _, h in boxes) + MARGIN - top
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left:g} {top:g} {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" font-family="sans-serif" font-size="12.5">',
        f"<title>{escape(figure.title)}</title>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#37474f"/></marker></defs>',
    ]
    lines += [_edge(figure.nodes, edge) for edge in figure.edges]
    lines += [_node(node) for node in figure.nodes.values()]
    return "\n".join([*lines, "</svg>", ""])


def _node(node: Node) -> str:
    (x, y), (w, h), (fill, border) = node.centre, node.size, COLOURS[node.style]
    if node.style == "operation":
        shape = f'<circle cx="{x:g}" cy="{y:g}" r="{RADIUS}" fill="{fill}" stroke="{border}"/>'
    else:
        round_by = h / 2 if node.style == "data" else 4
        shape = (
            f'<rect x="{x - w / 2:g}" y="{y - h / 2:g}" width="{w:g}" height="{h:g}" rx="{round_by:g}" fill="{fill}" '
            f'stroke="{border}"/>'
        )
    texts = node.text.split("\n")
    first = y - LINE * (len(texts) - 1) / 2 + 4.5
    words = [
        f'<text x="{x:g}" y="{first + LINE * n:g}" text-anchor="middle" fill="#212121">{escape(text)}</text>'
        for n, text in enumerate(texts)
    ]
    return "".join([shape, *words])


def _edge(nodes: dict[str, Node], edge: Edge) -> str:
    start, end = nodes[edge.start], nodes[edge.end]
    (x, y), (to_x, to_y) = start.centre, end.centre
    corner = {"": [], "hv": [(to_x, y)], "vh": [(x, to_y)]}[edge.bend]
    points = [(x, y), *corner, (to_x, to_y)]
    points[0] = _border(start, points[1])
    points[-1] = _border(end, points[-2])
    path = " ".join(f"{a:g},{b:g}" for a, b in points)
    line = f'<polyline points="{path}" fill="none" stroke="#37474f" stroke-width="1.2" marker-end="url(#arrow)"/>'
    if not edge.label:
        return line
    (a, b), (c, d) = points[-2:]
    return line + f'<text x="{(a + c) / 2 + 4:g}" y="{(b + d) / 2 - 5:g}" fill="#546e7a">{escape(edge.label)}</text>'


def _border(node: Node, towards: tuple[float, float]) -> tuple[float, float]:
    """Return where a line from the centre of a node to a point leaves it."""
    (x, y), (w, h) = node.centre, node.size
    dx, dy = towards[0] - x, towards[1] - y
    if node.style == "operation":
        share = RADIUS / max((dx**2 + dy**2) ** 0.5, 1e-9)
    else:
        share = min(w / 2 / abs(dx) if dx else 1e9, h / 2 / abs(dy) if dy else 1e9)
    return x + dx * share, y + dy * share
