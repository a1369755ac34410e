// The front: every run at its cost and accuracy.

let costName = DATA.cost;

// Paths of marks, one for each kind and way of drawing, so that thousands of runs are few elements.
function marks(plot, entries, r) {
  const groups = new Map();
  for (const { kind, hollow, x, y, faint } of entries) {
    const key = `${kind} ${hollow} ${faint}`;
    if (!groups.has(key)) groups.set(key, { kind, hollow, faint, parts: [] });
    groups.get(key).parts.push(shape(kind, x, y, r));
  }
  for (const { kind, hollow, faint, parts } of groups.values()) {
    const style = hollow
      ? { fill: "none", stroke: colour(kind), "stroke-width": 1.4 }
      : { fill: colour(kind), stroke: "var(--back)", "stroke-width": 0.8 };
    plot.svg.append(svg("path", { d: parts.join(""), opacity: faint ? 0.75 : 1, ...style }));
  }
}

// The corners of the line that bounds what the front dominates, level up to the right edge.
function steps(points, right) {
  let path = "";
  points.forEach(([x, y], n) => { path += n ? `H${x.toFixed(1)}V${y.toFixed(1)}` : `M${x.toFixed(1)} ${y.toFixed(1)}`; });
  return points.length ? `${path}H${right}` : "";
}

function errorBars(bars) {
  return bars.filter(([, low, high]) => Number.isFinite(low) && Number.isFinite(high))
    .map(([x, low, high]) => `M${x} ${low}V${high}M${x - 4} ${low}h8M${x - 4} ${high}h8`).join("");
}

// `cost` is that of the horizontal axis, `numbers` the runs on the front, and `line` says whether to bound what it dominates.
function drawFront(plot, cost, numbers, line) {
  const runs = visible().filter((t) => t.y !== null && Number.isFinite(t.cost[cost]));
  const front = numbers.map((n) => byNumber.get(n)).filter((t) => Number.isFinite(t.cost[cost]))
    .sort((a, b) => a.cost[cost] - b.cost[cost]);
  const x = costScale([...runs, ...front].map((t) => t.cost[cost]), plot.left, plot.right);
  const [low, high] = extent([...runs.map((t) => t.y), ...front.flatMap((t) => [t.y, t.low, t.high])]);
  const room = (high - low || 1) * 0.05;
  const top = DATA.measured.rate ? Math.min(100, high + room) : high + room;
  const y = linear(DATA.measured.rate ? Math.max(0, low - room) : low - room, top, plot.bottom, plot.top);
  axes(plot, { x, y, xLabel: DATA.costs[cost], yLabel: DATA.measured.label });
  // With a third objective a run of the front may be worse than a cheaper one: it bounds nothing here.
  const corners = bounding(front, (t) => t.y).map((t) => [x(t.cost[cost]), y(t.y)]);
  if (line) plot.svg.append(svg("path", { class: "front", d: steps(corners, plot.right) }));
  const r = runs.length > 500 ? 3.2 : 5;
  marks(plot, runs.map((t) => ({ kind: t.kind, hollow: t.state !== "finished", faint: t.state !== "finished" || !t.front && runs.length > 100,
    x: x(t.cost[cost]), y: y(t.y) })), r);
  const withLow = front.filter((t) => t.low !== null);
  plot.svg.append(svg("path", { class: "bars", d: errorBars(withLow.map((t) => [x(t.cost[cost]), y(t.low), y(t.high)])) }));
  for (const row of DATA.confirmed) {
    const trial = byNumber.get(row.n);
    if (!trial.front) continue;
    for (const seed of row.seeds) {
      plot.svg.append(svg("path", { class: "bars", d: `M${x(trial.cost[cost]) - 7} ${y(seed)}h14` }));
    }
  }
  // Runs at one place: their number beside it.
  const same = new Map();
  for (const trial of runs) {
    const key = `${x(trial.cost[cost]).toFixed(1)} ${y(trial.y).toFixed(1)}`;
    if (!same.has(key)) same.set(key, []);
    same.get(key).push(trial);
  }
  const crowded = [...same.values()].filter((group) => group.length > 1);
  for (const [first, ...others] of crowded.length <= 150 ? crowded : []) {
    plot.svg.append(svg("text", { class: "count", x: x(first.cost[cost]) + r + 3, y: y(first.y) + 11 }, `×${others.length + 1}`));
  }
  label(plot, front, x, y, cost);
  plot.points = [...same.values()].flatMap((group) => group.map((trial, n) => ({
    x: x(trial.cost[cost]), y: y(trial.y), trial: trial.n, quiet: false,
    text: () => n || group.length === 1 ? describe(trial) : group.map(describe).slice(0, 3).join("\n\n")
      + (group.length > 3 ? `\n\nand ${group.length - 3} more here` : ""),
  })));
}

// Numbers of the front's runs beside their points, without those that would cover another; the picks in words.
function label(plot, front, x, y, cost) {
  const written = [];
  const picks = Object.entries(DATA.picks);
  const order = [...front].sort((a, b) => picks.some(([, n]) => n === b.n) - picks.some(([, n]) => n === a.n));
  for (const trial of order) {
    const names = picks.filter(([, n]) => n === trial.n).map(([rule]) => rule);
    const text = [trial.n, ...names].join(" ");
    const at = [x(trial.cost[cost]) - 9, y(trial.y) - 8];
    if (at[0] - 7 * text.length < plot.left) at[0] = plot.left + 7 * text.length;
    if (written.some(([a, b, size]) => Math.abs(a - at[0]) < 7 * Math.max(size, text.length) && Math.abs(b - at[1]) < 15)) continue;
    written.push([...at, text.length]);
    plot.svg.append(svg("text", { class: names.length ? "strong halo" : "halo", x: at[0], y: at[1], "text-anchor": "end" }, text));
  }
}

function front() {
  const names = Object.keys(DATA.costs);
  const controls = names.length > 1 ? [selector("Cost of the horizontal axis", names.map((name) => DATA.costs[name]), (index) => {
    costName = names[index];
    one.draw();
  }, names.indexOf(costName))] : [];
  const one = chart("front-figure", {
    height: (width) => Math.max(340, Math.min(560, width * 0.5)), controls,
    draw: (plot) => drawFront(plot, costName, DATA.front, costName === DATA.cost),
    summary: () => `${DATA.front.length} runs are on the front.`,
  });
  for (const { cost, front } of DATA.fronts) {
    chart(`front-${cost}-figure`, {
      height: (width) => Math.max(340, Math.min(560, width * 0.7)), draw: (plot) => drawFront(plot, cost, front, true),
      summary: () => `${front.length} runs are on the front by ${DATA.costs[cost]}.`,
    });
  }
}
