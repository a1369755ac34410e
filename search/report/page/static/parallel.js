// Parallel coordinates of all ranges, and the table of all runs.

let parallelKind = -1;

// The axes that the drawn runs have: those of other mechanisms would only show that they are not used.
function usedAxes(runs) {
  const at = new Map(DATA.trials.map((trial, n) => [trial.n, n]));
  const ranges = DATA.axes.filter((axis) => runs.some((t) => axis.at[at.get(t.n)] !== null))
    .map((axis) => ({ ...axis, value: (t) => axis.at[at.get(t.n)] }));
  const cost = { short: DATA.cost, value: (t) => t.cost[DATA.cost], log: true };
  const goal = { short: DATA.measured.name, value: (t) => t.y };
  for (const axis of [cost, goal]) {
    [axis.low, axis.high] = extent(runs.map(axis.value));
    if (axis.low <= 0) axis.log = false;
  }
  return [...ranges, cost, goal];
}

function parallelRuns() {
  return visible().filter((t) => (parallelKind < 0 || t.kind === parallelKind) && t.y !== null);
}

function drawParallel(plot) {
  const runs = parallelRuns();
  const list = usedAxes(runs);
  const unusedAt = plot.bottom - 6;
  const end = plot.bottom - 34;
  const x = linear(0, Math.max(1, list.length - 1), plot.left, plot.right);
  list.forEach((axis, n) => {
    const cats = axis.labels;
    axis.scale = cats ? linear(-0.3, cats.length - 0.7, end, plot.top)
      : (axis.log && axis.low > 0 ? logarithmic : linear)(axis.low, axis.high === axis.low ? axis.low * 1.1 + 1e-9 : axis.high, end, plot.top);
    plot.svg.append(svg("line", { class: "axis", x1: x(n), x2: x(n), y1: plot.top, y2: end }));
    const anchor = n === 0 ? "start" : n === list.length - 1 ? "end" : "middle";
    const name = axis.short.replace(/^attention\//, "").replace("/", " ");
    const room = Math.max(8, Math.floor((x(1) - x(0)) / 6.4));
    plot.svg.append(svg("text", { class: "strong", x: x(n), y: n % 2 ? 12 : 28, "text-anchor": anchor }, name.length > room * 2 ? `…${name.slice(1 - room * 2)}` : name));
    const ticks = cats ? cats.map((text, i) => [i, text]) : [axis.low, axis.high].map((value) => [value, short(value)]);
    const side = n === list.length - 1 ? [-5, "end"] : [5, "start"];
    for (const [value, text] of ticks) {
      plot.svg.append(svg("text", { class: "tick halo", x: x(n) + side[0], y: axis.scale(value) + 4, "text-anchor": side[1] }, text.length > 16 ? `${text.slice(0, 15)}…` : text));
    }
    if (runs.some((t) => axis.value(t) === null)) {
      plot.svg.append(svg("text", { class: "soft halo", x: x(n) + side[0], y: unusedAt + 4, "text-anchor": side[1] }, "not used"));
    }
  });
  const place = (axis, t) => (axis.value(t) === null || axis.value(t) === undefined ? unusedAt : axis.scale(axis.value(t)));
  const line = (t, used) => list.slice(1).map((axis, n) => {
    const real = list[n].value(t) !== null && axis.value(t) !== null;
    return real === used ? `M${x(n).toFixed(1)} ${place(list[n], t).toFixed(1)}L${x(n + 1).toFixed(1)} ${place(axis, t).toFixed(1)}` : "";
  }).join("");
  const groups = new Map();
  for (const t of runs) {
    const key = t.kind * 2 + t.front;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(t);
  }
  const lines = [];
  for (const [key, group] of [...groups].sort((a, b) => (a[0] % 2) - (b[0] % 2))) {
    const style = { fill: "none", stroke: colour(key >> 1), "stroke-width": key % 2 ? 2.4 : 1.1, opacity: key % 2 ? 1 : runs.length > 200 ? 0.22 : 0.5 };
    lines.push(svg("path", { d: group.map((t) => line(t, true)).join(""), ...style }));
    lines.push(svg("path", { class: "unused", d: group.map((t) => line(t, false)).join(""), ...style, opacity: style.opacity * 0.6 }));
  }
  plot.svg.prepend(...lines);
  const many = runs.length > 400;
  for (const t of runs) {
    list.forEach((axis, n) => {
      const isEnd = n === list.length - 1;
      if (!many || isEnd) plot.points.push({ x: x(n), y: place(axis, t), trial: t.n, quiet: !isEnd, text: () => describe(t) });
    });
  }
  plot.overlay = (number) => {
    const t = runs.find((run) => run.n === number);
    return t ? [svg("path", { class: "ring", d: line(t, true) }), svg("path", { class: "ring unused", d: line(t, false) })] : [];
  };
}

function parallel() {
  if (!document.getElementById("parallel-figure")) return;
  if (!DATA.trials.length) {
    document.getElementById("parallel-figure").remove();
    return;
  }
  const figure = document.getElementById("parallel-figure");
  const most = Math.max(...DATA.kinds.map((_, kind) => usedAxes(DATA.trials.filter((t) => t.kind === kind)).length));
  // With many ranges, a first look at one mechanism says more: that of the best run.
  if (DATA.axes.length > 9 && DATA.kinds.length > 1 && DATA.picks.best !== undefined) parallelKind = byNumber.get(DATA.picks.best).kind;
  const names = ["all mechanisms", ...DATA.kinds.map((kind) => `only ${kind}`)];
  chart("parallel-figure", {
    height: 400, least: 92 * Math.min(most, 14), draw: drawParallel, margins: { left: 10, right: 10, top: 40, bottom: 12 },
    controls: [selector("Mechanism whose ranges are drawn", names, (index) => {
      parallelKind = index - 1;
      charts.find((c) => c.figure === figure).draw();
    }, parallelKind + 1)],
    summary: () => "Thick lines are runs of the front.",
  });
}

// The table of all runs: sorted by a click on its head, searched, the first rows at once.
function allRuns() {
  const place = document.getElementById("runs-table");
  if (!place) return;
  const FIRST_ROWS = 25;
  const costs = Object.keys(DATA.costs);
  const columns = [
    ["trial", (t) => t.n, String, true], ["state", (t) => STATES[t.state], String], ["model", (t) => t.model, String],
    [DATA.measured.name, (t) => t.y, measured, true], ["95 % interval", (t) => t.low, null, true],
    ...costs.map((name) => [name, (t) => t.cost[name], short, true]), ["epochs", (t) => t.epochs[0], null, true],
    ["time", (t) => t.seconds, duration, true],
  ];
  const sorted = { column: 3, down: DATA.measured.maximise };
  let all = false;
  const search = html("input", { type: "search", placeholder: "Find a model", "aria-label": "Find runs by their model", oninput: () => runsTable.draw() });
  const head = html("tr", {}, ...columns.map(([name, , , isNumber], n) => html("th", { scope: "col", class: isNumber ? "number" : null },
    html("button", { type: "button", onclick: () => {
      sorted.down = sorted.column === n ? !sorted.down : Boolean(isNumber) && n > 0;
      sorted.column = n;
      runsTable.draw();
    } }, name))));
  const body = html("tbody");
  const more = html("button", { type: "button", onclick: () => { all = true; runsTable.draw(); } });
  runsTable = {
    draw: () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const value = columns[sorted.column][1];
      const runs = visible().filter((t) => words.every((word) => `${t.n} ${t.model} ${STATES[t.state]}`.toLowerCase().includes(word)))
        .sort((a, b) => {
          const [p, q] = [value(a), value(b)];
          if (p === null || q === null) return (p === null) - (q === null);
          return (p < q ? -1 : p > q ? 1 : a.n - b.n) * (sorted.down ? -1 : 1);
        });
      [...head.children].forEach((cell, n) => {
        if (n === sorted.column) cell.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
        else cell.removeAttribute("aria-sort");
      });
      const shown = all ? runs : runs.slice(0, FIRST_ROWS);
      body.replaceChildren(...shown.map((t) => html("tr", { "data-trial": t.n, class: t.n === chosen.trial ? "chosen" : null },
        ...columns.map(([name, get, text, isNumber], n) => {
          const words = name === "epochs" ? t.epochs.join("/") : name === "95 % interval" ? between(t.low, t.high) : text(get(t));
          return html(n ? "td" : "th", { class: isNumber ? "number" : null, scope: n ? null : "row" }, words);
        }))));
      more.hidden = shown.length === runs.length;
      more.textContent = `Show all ${runs.length} runs`;
    },
  };
  place.append(html("div", { class: "table", "data-table": "trials" }, html("div", { class: "bar" }, html("h3", { id: "t-runs" }, "Runs as a table"), search),
    html("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": "t-runs" }, html("table", {}, html("thead", {}, head), body)), more));
  runsTable.draw();
}
