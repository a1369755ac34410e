"""Tables of tests clip by clip, and of two tests on the same clips."""

from search.report.clips.paired import Comparison, Paired
from search.report.clips.tested import Tested
from search.report.page.table import Table
from search.report.wording.values import format_estimate, format_gain, significance


def class_table(test: Tested) -> Table:
    """Return the accuracy of each class that occurs, the worst first, and for what it is mostly taken."""
    counts, found = test.confusion(), test.by_class()
    rows = []
    for label in sorted(found, key=lambda label: (found[label].value, label)):
        wrong = counts[label].copy()
        right, wrong[label] = int(wrong[label]), 0
        other = int(wrong.argmax())
        mostly = f"{test.classes[other]} ({wrong[other]})" if wrong[other] else ""
        clips = str(int(counts[label].sum()))
        rows.append([test.classes[label], clips, str(right), format_estimate("top1", found[label]), mostly])
    head = ["class", "clips", "right", "accuracy (95 % interval)", "mostly taken for"]
    return Table("classes", f"{test.name}: accuracy by class", head, rows, words=frozenset({0, 4}))


def gain_table(comparison: Comparison) -> Table:
    """Return what each class gains, those that gain most first."""
    rows = [
        [each.name, *_cells(each.pair), format_p(each.pair.p), format_p(each.adjusted)] for each in comparison.classes
    ]
    head = ["class", "clips", *_head(comparison), "p", "p of all classes (Holm)"]
    note = "McNemar's exact test on the same clips; the last column is adjusted for the number of classes."
    return Table("class-gains", f"{_title(comparison)} by class", head, rows, note)


def length_table(comparison: Comparison) -> Table:
    """Return what clips gain by their length."""
    rows = [
        [f"{low:.0f}" if low == high else f"{low:.0f} to {high:.0f}", *_cells(pair), format_p(pair.p)]
        for low, high, pair in comparison.lengths
    ]
    return Table("lengths", f"{_title(comparison)} by length", ["frames", "clips", *_head(comparison), "p"], rows)


def whole_line(comparison: Comparison) -> str:
    """Return the comparison over all clips as a sentence."""
    whole = comparison.whole
    verdict = significance(whole.p < 0.05)
    return (
        f"{whole.clips} clips: {comparison.a.name} {format_estimate('top1', whole.a)}, {comparison.b.name} "
        f"{format_estimate('top1', whole.b)}; {format_gain('top1', whole.gain)}; {whole.gained} gained, {whole.lost} "
        f"lost, McNemar p {format_p(whole.p)}: {verdict}"
    )


def format_p(p: float) -> str:
    """Return a p value such as "0.031" or "< 0.001"."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _title(comparison: Comparison) -> str:
    return f"{comparison.b.name} over {comparison.a.name}"


def _head(comparison: Comparison) -> list[str]:
    return [comparison.a.name, comparison.b.name, "gain (95 % interval)", "gained", "lost"]


def _cells(pair: Paired) -> list[str]:
    rates = [f"{100 * estimate.value:.1f} %" for estimate in (pair.a, pair.b)]
    return [str(pair.clips), *rates, format_gain("top1", pair.gain), str(pair.gained), str(pair.lost)]
