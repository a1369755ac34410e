"""The tables of a page."""

from collections.abc import Sequence

from search.analysis.ablation import Ablation
from search.analysis.certainty import Certainty
from search.analysis.choices import Choice
from search.analysis.equal_cost import Gain
from search.analysis.importance import Importances
from search.ledger.history import History, Trial
from search.report.clips.paired import compared
from search.report.clips.tested import Tested, shown_gains
from search.report.page.table import Table
from search.report.wording.states import describe_state
from search.report.wording.trials import describe, explain_names
from search.report.wording.values import (
    Shown,
    format_duration,
    format_estimate,
    format_gain,
    format_metric,
    format_range,
)
from vattn.errors import UserError


def front_table(sure: Certainty) -> Table:
    """Return the front in order of increasing cost, with intervals and with what each step gains."""
    costs = list(sure.front[0].cost) if sure.front else []
    gained = {step.better.number: step for step in sure.steps}
    rows = []
    for trial in sure.front:
        step = gained.get(trial.number)
        verdict = "" if step is None or not step.gain.is_known else "yes" if step.gain.excludes_zero else "no"
        rows.append([
            str(trial.number), describe(trial), sure.marks(trial), format_metric(sure.name, trial.metrics[sure.name]),
            format_range(sure.name, sure.estimates[trial.number]),
            *(format_metric(name, trial.cost[name]) for name in costs),
            "" if step is None else format_gain(sure.name, step.gain), verdict,
            ", ".join(map(str, sure.rivals[trial.number][:5])) or "–",
        ])  # fmt: skip
    head = ["trial", "model", "pick", sure.name, "95 % interval", *costs, "gain over the row above", "significant",
            "within noise of"]  # fmt: skip
    note = "Within noise of: finished trials of no higher cost that are not significantly different, nearest first. "
    note += explain_names(sure.front)
    numbers = [trial.number for trial in sure.front]
    picked = frozenset(numbers.index(trial.number) for trial in sure.picks.values())
    return Table(
        "front",
        "Models of the front",
        head,
        rows,
        note,
        frozenset({1, 2, len(head) - 2, len(head) - 1}),
        picked,
        numbers,
    )


def gain_table(sure: Certainty, gains: Sequence[tuple[Choice, Gain]], cost: str) -> Table:
    """Return the gain of each option at equal cost."""
    rows = [
        [
            choice.name, gain.option, gain.against or "all others",
            Shown(f"{gain.runs} / {gain.others}", value=gain.runs, against=gain.others),
            Shown(
                f"{format_metric(sure.name, gain.without)} → {format_metric(sure.name, gain.with_option)}",
                without=gain.without, value=gain.with_option,
            ),
            format_gain(sure.name, gain.gain),
            "few runs" if gain.has_few_runs else "yes" if gain.gain.excludes_zero else "no",
        ]
        for choice, gain in gains
    ]  # fmt: skip
    head = [
        "choice",
        "option",
        "against",
        "runs",
        f"{sure.name} at equal cost",
        "gain (95 % interval)",
        "significant",
    ]
    note = (
        f"The gain is the mean difference of the two fronts over the range of {cost} that both have. Stopped runs "
        "count with the forecasts of their last values. The interval compares equally many runs of both sides. Runs "
        "with and without an option can differ in other choices too."
    )
    return Table("gains", "What each option gains at equal cost", head, rows, note, frozenset({0, 1, 2, 6}))


def importance_table(found: Importances) -> Table:
    """Return the importance of each choice for being near the front."""
    rows = [[name, Shown(f"{100 * share:.0f} %", value=share)] for name, share in found.shares.items()]
    return Table("importance", "Which choices decide who is near the front", ["choice", "importance"], rows)


def ablation_table(table: Ablation, metric: str, number: int) -> Table:
    """Return an ablation as a table of means, each with its interval and its number of runs."""

    def text(row: str, column: str) -> str:
        cell = table.cells.get((row, column))
        if cell is None:
            return ""
        runs, mean = len(cell.trials), format_estimate(metric, cell.mean)
        return Shown(f"{mean}, {runs} run{'s' * (runs > 1)}", **mean.numbers, runs=runs)

    rows = [[row, *(text(row, column) for column in table.columns)] for row in table.rows]
    head = [f"{table.row} \\ {table.column}", *table.columns]
    note = f"In the form of {table.source}. " if table.source else ""
    note += f"Mean {metric} of finished runs; an empty cell has no finished run."
    words = frozenset({0})
    return Table(f"ablation-{number}", table.title, head, rows, note, words)


def trials_table(history: History, sure: Certainty) -> Table:
    """Return all trainings, with their states and reasons."""
    trials = [*history.trials.values(), *history.extras.values()]
    costs = list(trials[0].cost) if trials else []
    rows = [
        [
            str(trial.number), describe_state(trial.state), describe(trial),
            _measured(sure, trial), _interval(sure, trial),
            *(format_metric(name, trial.cost.get(name, float("nan"))) for name in costs),
            Shown(f"{trial.epoch}/{trial.epochs}", value=trial.epoch, of=trial.epochs), format_duration(trial.seconds),
        ]
        for trial in trials
    ]  # fmt: skip
    head = ["trial", "state", "model", sure.name, "95 % interval", *costs, "epochs", "time"]
    return Table("trials", "Runs as a table", head, rows, words=frozenset({1, 2}))


def _measured(sure: Certainty, trial: Trial) -> str:
    if trial.number in sure.estimates:
        return format_metric(sure.name, sure.estimates[trial.number].value)
    return format_metric(sure.name, trial.metrics.get(sure.name, float("nan")))


def _interval(sure: Certainty, trial: Trial) -> str:
    return format_range(sure.name, sure.estimates[trial.number]) if trial.number in sure.estimates else ""


def compute_table(spent: dict[str, tuple[int, float, float]]) -> Table:
    """Return where the training time went."""
    total = sum(seconds for _, seconds, _ in spent.values()) or 1.0
    on_gpus = any(gpu_seconds for _, _, gpu_seconds in spent.values())
    rows = [
        [purpose, str(runs), format_duration(seconds), Shown(f"{100 * seconds / total:.0f} %", value=seconds / total)]
        + [Shown(f"{gpu_seconds / 3600:.2f}", value=gpu_seconds / 3600)] * on_gpus
        for purpose, (runs, seconds, gpu_seconds) in spent.items()
    ]
    head = ["runs", "number", "training time", "share", *["GPU-hours"] * on_gpus]
    return Table("compute", "Training time by purpose", head, rows)


def clip_tables(tests: Sequence[Tested]) -> list[Table]:
    """Return the tables of results clip by clip: whole tests, by class, classes that gain most, by length."""
    if not tests:
        return []
    whole = [
        [test.name, format_estimate("top1", test.accuracy), str(len(test.right)),
         "" if n == 0 else _paired(tests[0], test)]
        for n, test in enumerate(tests)
    ]  # fmt: skip
    tables = [Table("tests", "Tests", ["test", "top1", "clips", f"gain over {tests[0].name}"], whole)]
    by_class = [test.by_class() for test in tests]
    labels = sorted({label for found in by_class for label in found})
    rows = [
        [
            tests[0].classes[label],
            *(format_estimate("top1", found[label]) if label in found else "" for found in by_class),
        ]
        for label in labels
    ]
    tables.append(Table("classes", "Accuracy by class", ["class", *(test.name for test in tests)], rows))
    if len(tests) > 1:
        base, last = tests[0], tests[-1]
        rows = [
            [name, format_metric("top1", a.value), format_metric("top1", b.value), format_gain("top1", gain)]
            for name, a, b, gain in shown_gains(base, last)
        ]
        head = ["class", base.name, last.name, "gain"]
        tables.append(Table("class-gains", f"Classes that gain most: {last.name} over {base.name}", head, rows))
    for n, test in enumerate(tests):
        if lengths := test.by_length():
            rows = [
                [f"{low:g} to {high:g}", str(clips), format_estimate("top1", estimate)]
                for low, high, clips, estimate in lengths
            ]
            head = ["frames", "clips", "top1"]
            tables.append(Table(f"lengths-{n + 1}", f"Accuracy by length of the video: {test.name}", head, rows))
    return tables


def _paired(base: Tested, other: Tested) -> str:
    """Return the gain over a test and, if both have the same clips, how many only one of them got right."""
    try:
        comparison = compared(base, other)
    except UserError:
        comparison = None
    if comparison is None or comparison.left_out:
        gain = other.accuracy.value - base.accuracy.value
        return Shown(f"{100 * gain:+.1f} points", value=gain)
    whole = comparison.whole
    gain = format_gain("top1", whole.gain)
    return Shown(
        f"{gain}; {whole.gained} clips gained, {whole.lost} lost",
        **gain.numbers, gained=whole.gained, lost=whole.lost,
    )  # fmt: skip
