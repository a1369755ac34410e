// Results clip by clip: classes that gain most, accuracy by the length of the video.

function drawClassGains(plot) {
  const rows = DATA.clips.gains;
  const left = Math.min(220, plot.width * 0.38);
  const [low, high] = extent(rows.flatMap(([, , , ...gain]) => gain));
  const room = (high - low || 1) * 0.05;
  const x = linear(Math.min(0, low) - room, Math.max(0, high) + room, left, plot.width - 16);
  for (const tick of x.ticks((plot.width - left) / 70)) {
    plot.svg.append(svg("line", { class: tick === 0 ? "zero" : "grid", x1: x(tick), x2: x(tick), y1: 20, y2: plot.height - 6 }));
    plot.svg.append(svg("text", { class: "tick", x: x(tick), y: 13, "text-anchor": "middle" }, `${tick > 0 ? "+" : ""}${short(tick)}`));
  }
  rows.forEach(([name, before, after, gain, from, to], n) => {
    const y = 24 + 24 * n;
    const most = Math.floor(left / 7);
    const hue = from > 0 ? "var(--good)" : to < 0 ? "var(--c2)" : "var(--soft)";
    plot.svg.append(svg("text", { x: 2, y: y + 15 }, name.length > most ? `${name.slice(0, most - 1)}…` : name));
    plot.svg.append(svg("rect", { x: Math.min(x(0), x(gain)), y: y + 4, width: Math.max(1, Math.abs(x(gain) - x(0))), height: 14, fill: hue, opacity: 0.75 }));
    plot.svg.append(svg("line", { x1: x(from), x2: x(to), y1: y + 11, y2: y + 11, stroke: "var(--ink)", "stroke-width": 1.2 }));
    plot.points.push({ x: x(gain), y: y + 11, box: [0, y, plot.width, y + 24], text: () =>
      `${name}: ${tenths(before)} % to ${tenths(after)} %\n${gain > 0 ? "+" : ""}${tenths(gain)} points (${tenths(from)} to ${tenths(to)})` });
  });
}

function drawLengths(plot) {
  const tests = DATA.clips.lengths;
  const bins = tests.flatMap(([, rows]) => rows);
  const [least, most] = extent(bins.flatMap(([from, to]) => [from, to]));
  const x = linear(least, most, plot.left + 6, plot.right - 6);
  const [low, high] = extent(bins.flatMap(([, , , ...ends]) => ends));
  const y = linear(Math.max(0, low - 4), Math.min(100, high + 4), plot.bottom, plot.top);
  axes(plot, { x, y, xLabel: "frames of the video", yLabel: "top-1 accuracy (%)" });
  tests.forEach(([name, rows], n) => {
    const places = rows.map(([from, to, clips, value, bottom, top]) => ({ x: x((from + to) / 2) + 3 * n, value, bottom, top, from, to, clips }));
    plot.svg.append(svg("path", { d: places.map((p, i) => `${i ? "L" : "M"}${p.x} ${y(p.value)}`).join(""), fill: "none", stroke: colour(n + 1), "stroke-width": 2 }));
    plot.svg.append(svg("path", { d: errorBars(places.map((p) => [p.x, y(p.bottom), y(p.top)])), fill: "none", stroke: colour(n + 1), "stroke-width": 1.2 }));
    marks(plot, places.map((p) => ({ kind: n + 1, hollow: false, faint: false, x: p.x, y: y(p.value) })), 4.5);
    for (const p of places) {
      plot.points.push({ x: p.x, y: y(p.value), text: () => `${name}, ${short(p.from)} to ${short(p.to)} frames\n${tenths(p.value)} % (${tenths(p.bottom)} to ${tenths(p.top)} %) of ${p.clips} clips` });
    }
  });
}

function clips() {
  const known = DATA.clips;
  if (!known) return;
  if (known.gains.length) {
    chart("class-gains-figure", {
      height: 30 + 24 * known.gains.length, draw: drawClassGains,
      summary: () => `Most: ${known.gains.slice(0, 3).map(([name, , , gain]) => `${name} ${tenths(gain)} points`).join(", ")}.`,
    });
  }
  if (known.lengths.length) {
    const one = chart("lengths-figure", { height: 320, draw: drawLengths, summary: () => `Tests: ${known.lengths.map(([name]) => name).join(", ")}.` });
    one.figure.querySelector("figcaption").after(html("span", { class: "legend" },
      ...known.lengths.map(([name], n) => html("span", {}, mark(n + 1, false), ` ${name}`))));
  }
}
