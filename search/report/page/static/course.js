// How the search went: hypervolume, learning curves, the timeline, compute.

let courseBy = 1;

function drawCourse(plot) {
  const rows = DATA.course;
  const factor = courseBy === 2 ? 1 / 3600 : 1;
  const at = (row) => row[courseBy] * factor;
  const x = linear(0, Math.max(...rows.map(at)) || 1, plot.left + 14, plot.right);
  const y = linear(0, Math.max(...rows.map((row) => row[4])) * 1.05 || 1, plot.bottom, plot.top);
  const names = { 1: "finished runs", 2: "hours since the start", 3: "GPU-hours" };
  axes(plot, { x, y, xLabel: names[courseBy], yLabel: "hypervolume" });
  let path = "";
  rows.forEach((row, n) => { path += n ? `H${x(at(row)).toFixed(1)}V${y(row[4]).toFixed(1)}` : `M${x(at(row))} ${y(row[4])}`; });
  plot.svg.append(svg("path", { class: "front", d: path }));
  rows.forEach((row, n) => {
    const rises = !n || row[4] > rows[n - 1][4];
    if (rises && rows.length <= 400) plot.svg.append(svg("circle", { cx: x(at(row)), cy: y(row[4]), r: 3.5, fill: "var(--accent)" }));
    plot.points.push({ x: x(at(row)), y: y(row[4]), trial: row[0], quiet: !rises, text: () =>
      `after ${row[1]} finished runs, ${duration(row[2])}\nhypervolume ${short(row[4])}\ntrial ${row[0]} ended` });
  });
}

function drawCurves(plot) {
  const runs = visible().filter((trial) => trial.curve.length);
  const x = linear(0, Math.max(1, ...runs.map((t) => t.epochs[1])), plot.left, plot.right);
  const [low, high] = extent(runs.flatMap((t) => t.curve.map(([, value]) => value)));
  const y = linear(low, high + (high - low || 1) * 0.04, plot.bottom, plot.top);
  axes(plot, { x, y, xLabel: "epoch", yLabel: DATA.measured.label });
  const line = (t) => t.curve.map(([epoch, value], n) => (value === null ? "" : `${n ? "L" : "M"}${x(epoch).toFixed(1)} ${y(value).toFixed(1)}`)).join("")
    .replace(/^L/, "M");
  const groups = new Map();
  for (const t of runs) {
    const key = t.kind * 2 + t.front;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(line(t));
  }
  const opacity = runs.length > 200 ? 0.25 : 0.65;
  for (const [key, paths] of [...groups].sort((a, b) => (a[0] % 2) - (b[0] % 2))) {
    const isFront = key % 2;
    plot.svg.append(svg("path", { d: paths.join(""), fill: "none", stroke: colour(key >> 1), "stroke-width": isFront ? 2.4 : 1.2, opacity: isFront ? 1 : opacity }));
  }
  const cross = (t) => { const [epoch, value] = t.curve.at(-1); return value === null ? "" : `M${x(epoch) - 3.5} ${y(value) - 3.5}l7 7m0 -7l-7 7`; };
  for (const kind of new Set(runs.map((t) => t.kind))) {
    const d = runs.filter((t) => t.kind === kind && t.state === "stopped").map(cross).join("");
    if (d) plot.svg.append(svg("path", { d, fill: "none", stroke: colour(kind), "stroke-width": 1.6, opacity: runs.length > 200 ? 0.5 : 1 }));
  }
  const dense = runs.length > 300;
  for (const t of runs) {
    t.curve.forEach(([epoch, value], n) => {
      const isEnd = n === t.curve.length - 1;
      if (value === null || (dense && !isEnd)) return;
      plot.points.push({ x: x(epoch), y: y(value), trial: t.n, quiet: !isEnd, text: () => `epoch ${epoch}: ${measured(value)}\n${describe(t)}${t.reason ? `\n${t.reason}` : ""}` });
    });
  }
  plot.overlay = (number) => {
    const t = byNumber.get(number);
    return t && t.curve.length ? [svg("path", { class: "ring", d: line(t) })] : [];
  };
}

function lanes() {
  return Math.max(1, ...[...DATA.trials, ...DATA.extras].flatMap((t) => t.spans.map(([lane]) => lane + 1)));
}

function drawTimeline(plot) {
  const all = [...visible(), ...DATA.extras].filter((t) => t.spans.length);
  const last = Math.max(1, ...all.flatMap((t) => t.spans.map(([, , end]) => end)));
  const size = last > 7200 ? 3600 : last > 180 ? 60 : 1;
  const x = linear(0, last / size, plot.left, plot.right);
  const step = (plot.bottom - plot.top) / lanes();
  const y = linear(0, lanes(), plot.top, plot.bottom);
  y.ticks = () => [];
  axes(plot, { x, y, xLabel: { 3600: "hours", 60: "minutes", 1: "seconds" }[size] + " since the start", yLabel: "runs at once" });
  const groups = new Map();
  for (const t of all) {
    const kind = t.kind === undefined ? -1 : t.kind;
    const key = `${kind} ${t.state === "finished"}`;
    if (!groups.has(key)) groups.set(key, { kind, done: t.state === "finished", parts: [] });
    for (const [lane, start, end] of t.spans) {
      const from = x(start / size);
      const width = Math.max(0.5, x(end / size) - from - 1);
      const top = plot.top + lane * step + step * 0.12;
      groups.get(key).parts.push(`M${from.toFixed(1)} ${top.toFixed(1)}h${width.toFixed(1)}v${(step * 0.76).toFixed(1)}h${(-width).toFixed(1)}Z`);
      const middle = top + step * 0.38;
      plot.points.push({ x: from + width / 2, y: middle, box: [from, top, from + width + 1, top + step * 0.76], trial: t.kind === undefined ? undefined : t.n,
        text: () => `${t.kind === undefined ? `run ${t.n}, ${t.what}` : describe(t)}\n${duration(start)} to ${duration(end)}` });
      if (width > 7 * String(t.n).length + 6 && step > 14) {
        plot.points.at(-1).label = [from + width / 2, middle + 4, String(t.n), t.state === "finished"];
      }
    }
  }
  for (const { kind, done, parts } of groups.values()) {
    const hue = kind < 0 ? "var(--soft)" : colour(kind);
    plot.svg.append(svg("path", { d: parts.join(""), fill: done ? hue : "var(--back)", stroke: hue, "stroke-width": done ? 0 : 1.4 }));
  }
  for (const { label: text } of plot.points) {
    if (!text) continue;
    const node = svg("text", { x: text[0], y: text[1], "text-anchor": "middle" }, text[2]);
    if (text[3]) node.style.fill = "var(--back)";
    plot.svg.append(node);
  }
}

function course() {
  if (!document.getElementById("course")) return;
  if (DATA.course.length) {
    const ways = [1, 2, ...(DATA.course.at(-1)[3] > 0 ? [3] : [])];
    const names = { 1: "by finished runs", 2: "by time", 3: "by GPU-hours" };
    const one = chart("hypervolume-figure", {
      height: 300, draw: drawCourse, controls: [selector("Horizontal axis", ways.map((way) => names[way]), (index) => {
        courseBy = ways[index];
        one.draw();
      })],
      summary: () => `It ends at ${short(DATA.course.at(-1)[4])} after ${DATA.course.length} finished runs.`,
    });
  } else document.getElementById("hypervolume-figure").append(html("p", {}, "No run is finished yet."));
  chart("curves-figure", { height: 300, draw: drawCurves, summary: () => "Thick lines are runs of the front." });
  chart("timeline-figure", {
    height: () => 80 + Math.min(640, lanes() * 26), draw: drawTimeline, margins: { left: 8 },
    summary: () => `${lanes()} runs at once; hollow bars are runs that were stopped, failed or still train.`,
  });
  const total = DATA.compute.reduce((sum, [, , seconds]) => sum + seconds, 0) || 1;
  bars("compute-figure", DATA.compute.map(([purpose, runs, seconds]) =>
    [`${purpose} (${runs})`, seconds, `${duration(seconds)}, ${Math.round((100 * seconds) / total)} %`]), () => colour(3));
}
