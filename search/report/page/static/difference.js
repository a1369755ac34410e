// What made the difference: gains at equal cost, the fronts of the options of a choice, importances.

const FIRST = 14;
let allGains = false;
let choiceIndex = 0;

function gainRows() {
  const size = (gain) => Math.abs(gain.gain[0]);
  const groups = new Map();
  for (const gain of DATA.gains) {
    if (!groups.has(gain.choice)) groups.set(gain.choice, []);
    groups.get(gain.choice).push(gain);
  }
  // Choices with enough runs first, then by their greatest gain.
  const sure = (gains) => gains.some((gain) => !gain.few && gain.gain[1] * gain.gain[2] > 0);
  const ordered = [...groups].sort(([, a], [, b]) => sure(b) - sure(a) || Math.max(...b.map(size)) - Math.max(...a.map(size)));
  const rows = [];
  for (const [choice, gains] of ordered) {
    if (!allGains && rows.length && rows.length + gains.length > FIRST) break;
    rows.push({ choice });
    rows.push(...gains.map((gain) => ({ gain })));
  }
  return rows;
}

const points = (value) => `${value > 0 ? "+" : ""}${DATA.measured.rate ? tenths(value) : short(value)}`;
// The mark of an option: a mechanism has that of its kind in all drawings.
const markOf = (choice, n) => {
  const kind = choice.name === "attention" ? DATA.kinds.findIndex((name) => name === choice.options[n] || (choice.options[n] === "none" && name === "no attention")) : -1;
  return kind < 0 ? n + 1 : kind;
};
const against = (gain) => `${gain.option} over ${gain.against || "all others"}`;

function drawGains(plot) {
  const rows = gainRows();
  const narrow = plot.width < 640;
  const left = narrow ? 8 : 260;
  const right = plot.width - (narrow ? 12 : 215);
  const step = narrow ? 40 : 26;
  const [low, high] = extent(rows.flatMap((row) => (row.gain ? row.gain.gain : [0])));
  const room = (high - low || 1) * 0.04;
  const x = linear(low - room, high + room, left, right);
  const bottom = 26 + step * rows.length;
  for (const tick of x.ticks((right - left) / 70)) {
    plot.svg.append(svg("line", { class: tick === 0 ? "zero" : "grid", x1: x(tick), x2: x(tick), y1: 22, y2: bottom }));
    plot.svg.append(svg("text", { class: "tick", x: x(tick), y: 14, "text-anchor": "middle" }, points(tick)));
  }
  const word = DATA.measured.rate ? `points of ${DATA.measured.name}` : DATA.measured.name;
  plot.svg.append(svg("text", { class: "soft", x: right, y: bottom + 16, "text-anchor": "end" }, `gain at equal cost, ${word}`));
  rows.forEach((row, n) => {
    const y = 26 + step * n + (narrow ? 28 : 17);
    if (row.choice) {
      plot.svg.append(svg("text", { class: "strong", x: 2, y: narrow ? y - 4 : y }, row.choice));
      return;
    }
    const { gain, runs, others, few } = row.gain;
    const text = `${against(row.gain)}`;
    plot.svg.append(svg("text", { x: narrow ? 2 : 14, y: narrow ? y - 14 : y }, text.length > 40 ? `${text.slice(0, 39)}…` : text));
    const hue = few ? "var(--soft)" : gain[1] > 0 ? "var(--good)" : gain[2] < 0 ? "var(--c2)" : "var(--ink)";
    if (gain[1] !== null) {
      plot.svg.append(svg("line", { x1: x(gain[1]), x2: x(gain[2]), y1: y - 4, y2: y - 4, stroke: hue, "stroke-width": 2.5, "stroke-dasharray": few ? "3 3" : null }));
    }
    plot.svg.append(svg("circle", { cx: x(gain[0]), cy: y - 4, r: 5, fill: few ? "var(--back)" : hue, stroke: hue, "stroke-width": 2 }));
    const counts = `${points(gain[0])}  ·  ${runs} ${runs === 1 ? "run" : "runs"} against ${others}${few ? ", few" : ""}`;
    plot.svg.append(svg("text", { class: "soft", x: narrow ? plot.width - 4 : right + 14, y: narrow ? y - 14 : y, "text-anchor": narrow ? "end" : "start" }, narrow ? points(gain[0]) : counts));
    plot.points.push({
      x: x(gain[0]), y: y - 4, box: [0, y - step + 9, plot.width, y + 9],
      text: () => `${row.gain.choice}: ${text}\n${points(gain[0])} (${points(gain[1])} to ${points(gain[2])})\n${runs} ${runs === 1 ? "run" : "runs"} against ${others}`
        + (few ? "\ntoo few runs to say much" : gain[1] > 0 || gain[2] < 0 ? "\nsignificant" : "\nnot significant"),
    });
  });
}

function drawOptions(plot) {
  const choice = DATA.choices[choiceIndex];
  const all = choice.runs.flat();
  const x = costScale(all.map(([cost]) => cost), plot.left, plot.right);
  const [low, high] = extent(all.map(([, value]) => value));
  const room = (high - low || 1) * 0.06;
  const y = linear(low - room, high + room, plot.bottom, plot.top);
  axes(plot, { x, y, xLabel: DATA.costs[DATA.cost], yLabel: DATA.measured.label });
  choice.runs.forEach((runs, n) => {
    const corners = [];
    for (const [cost, value] of bounding(runs, ([, value]) => value)) {
      if (corners.length && corners.at(-1)[0] === x(cost)) corners.pop();
      corners.push([x(cost), y(value)]);
    }
    plot.svg.append(svg("path", { d: steps(corners, plot.right), fill: "none", stroke: colour(markOf(choice, n)), "stroke-width": 2, opacity: 0.85 }));
    marks(plot, runs.map(([cost, value, , forecast]) => ({ kind: markOf(choice, n), hollow: Boolean(forecast), faint: Boolean(forecast), x: x(cost), y: y(value) })), all.length > 500 ? 3 : 4.6);
    for (const [cost, value, trial, forecast] of runs) {
      plot.points.push({ x: x(cost), y: y(value), trial, text: () => `${choice.name} ${choice.options[n]}${forecast ? ", forecast" : ""}\n${describe(byNumber.get(trial))}` });
    }
  });
}

function difference() {
  if (!document.getElementById("gains-figure")) return;
  const section = document.getElementById("difference");
  if (!DATA.gains.length) {
    document.getElementById("gains-figure").replaceChildren(html("p", {}, "No choice has runs with two of its options yet."));
    document.getElementById("options-figure").remove();
  } else {
    const total = new Set(DATA.gains.map((gain) => gain.choice)).size;
    const more = html("button", { type: "button", "aria-pressed": "false", onclick: () => {
      allGains = !allGains;
      more.textContent = allGains ? "Strongest only" : `All ${total} choices`;
      more.setAttribute("aria-pressed", String(allGains));
      one.draw();
    } }, `All ${total} choices`);
    const one = chart("gains-figure", {
      height: (width) => 26 + (width < 640 ? 40 : 26) * gainRows().length + 26, draw: drawGains, controls: gainRows().filter((row) => row.choice).length < total ? [more] : [],
      summary: () => "A dot is the gain of an option, its line the 95 % interval; dashed grey has few runs.",
    });
    const keys = html("span", { class: "legend" });
    const legend = () => keys.replaceChildren(...DATA.choices[choiceIndex].options.map((option, n) =>
      html("span", {}, mark(markOf(DATA.choices[choiceIndex], n), false), ` ${option} (${DATA.choices[choiceIndex].runs[n].length})`)));
    const kinds = DATA.choices.findIndex((choice) => choice.name === "attention");
    choiceIndex = Math.max(0, kinds);
    legend();
    const figure = document.getElementById("options-figure");
    chart("options-figure", {
      height: 340, draw: drawOptions,
      controls: [selector("Choice whose options are compared", DATA.choices.map((choice) => choice.name), (index) => {
        choiceIndex = index;
        legend();
        charts.find((c) => c.figure === figure).draw();
      }, choiceIndex)],
      summary: () => `Options of ${DATA.choices[choiceIndex].name}; hollow points are forecasts of stopped runs.`,
    });
    figure.querySelector("figcaption").after(keys);
  }
  section.querySelector("details")?.before(html("p", { class: "note" }, "A dot is the gain, its line the 95 % interval. The interval compares equally many runs of both sides, and the best of fewer runs is worse: so it can reach further to one side of the dot. Grey and dashed: fewer than 4 runs on one side. Hollow points: forecasts of stopped runs."));
  bars("importance-figure", DATA.importance.filter(([, share]) => share >= 0.005).map(([name, share]) => [name, share, `${Math.round(100 * share)} %`]));
}

// Horizontal bars with their names above or beside them.
function bars(id, rows, hue = () => colour(1)) {
  const figure = document.getElementById(id);
  if (!figure) return;
  if (!rows.length) {
    figure.append(html("p", {}, "Nothing is known yet."));
    return;
  }
  chart(id, {
    height: rows.length * 28 + 12,
    draw: (plot) => {
      const left = Math.min(220, plot.width * 0.42);
      const x = linear(0, Math.max(...rows.map(([, value]) => value)) || 1, left, plot.width - 130);
      rows.forEach(([name, value, text], n) => {
        const y = 6 + 28 * n;
        const most = Math.floor(left / 7);
        plot.svg.append(svg("text", { x: 2, y: y + 16 }, name.length > most ? `${name.slice(0, most - 1)}…` : name));
        plot.svg.append(svg("rect", { x: left, y: y + 3, width: Math.max(1, x(value) - left), height: 18, rx: 2, fill: hue(n) }));
        plot.svg.append(svg("text", { class: "soft", x: Math.max(left, x(value)) + 8, y: y + 16 }, text));
        plot.points.push({ x: x(value), y: y + 12, box: [0, y, plot.width, y + 28], text: () => `${name}: ${text}` });
      });
    },
    summary: () => rows.slice(0, 5).map(([name, , text]) => `${name} ${text}`).join(", ") + ".",
  });
}
