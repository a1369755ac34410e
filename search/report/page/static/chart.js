// A drawing in a figure: axes, points that pointer and keyboard reach, a button that saves it.

const charts = [];

function linear(low, high, from, to) {
  const span = high - low || 1;
  const scale = (value) => from + ((value - low) / span) * (to - from);
  scale.ticks = (count) => {
    const rough = (high - low || 1) / Math.max(1, count);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.75);
    const ticks = [];
    for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) ticks.push(Number((n * step).toPrecision(12)));
    return ticks;
  };
  return scale;
}

function logarithmic(low, high, from, to) {
  const inner = linear(Math.log10(low), Math.log10(high), from, to);
  const scale = (value) => inner(Math.log10(value));
  scale.ticks = (count) => {
    const candidates = [[1, 2, 5], [1, 3], [1]].map((factors) => {
      const ticks = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
        for (const factor of factors) {
          const value = Number((factor * 10 ** power).toPrecision(3));
          if (value >= low * 0.999 && value <= high * 1.001) ticks.push(value);
        }
      }
      return ticks;
    });
    return candidates.find((ticks) => ticks.length <= count) || candidates[2];
  };
  return scale;
}

function extent(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value === null || value === undefined || !Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : [0, 1];
}

// The scale of costs: logarithmic over more than a factor of five, with room at both ends.
function costScale(values, from, to) {
  const [low, high] = extent(values);
  if (low > 0 && high > 5 * low) {
    const room = (high / low) ** 0.04;
    return logarithmic(low / room, high * room, from, to);
  }
  const room = (high - low || high || 1) * 0.05;
  return linear(low - room, high + room, from, to);
}

// Draw the axes of a plot with `x` and `y` scales; texts never leave the drawing.
function axes(plot, { x, y, xLabel, yLabel, xFormat = short, yFormat = short }) {
  const { left, right, top, bottom } = plot;
  for (const tick of y.ticks(Math.max(2, (bottom - top) / 55))) {
    plot.svg.append(svg("line", { class: "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) }));
    plot.svg.append(svg("text", { class: "tick", x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, yFormat(tick)));
  }
  let last = -Infinity;
  for (const tick of x.ticks(Math.max(2, (right - left) / 75))) {
    const text = xFormat(tick);
    if (x(tick) - last < 7 * text.length + 8 || x(tick) < left - 1 || x(tick) > right + 1) continue;
    last = x(tick);
    plot.svg.append(svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: top, y2: bottom }));
    const anchor = x(tick) > right - 12 ? "end" : "middle";
    plot.svg.append(svg("text", { class: "tick", x: x(tick), y: bottom + 18, "text-anchor": anchor }, text));
  }
  plot.svg.append(svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
  if (xLabel) plot.svg.append(svg("text", { class: "soft", x: right, y: bottom + 38, "text-anchor": "end" }, xLabel));
  if (yLabel) plot.svg.append(svg("text", { class: "soft", x: 2, y: 13 }, yLabel));
}

// Add a drawing to a figure. `draw(plot)` fills `plot.svg` of `plot.width`, and lists in `plot.points` what can be
// reached: {x, y, text, trial}. `height` is a number or a function of the width; `inline` lists controls.
function chart(id, { height, draw, summary, controls = [], least = 0, margins = {} }) {
  const figure = document.getElementById(id);
  if (!figure) return null;
  const title = figure.dataset.title;
  const name = `${DATA.name}-${id.replace("-figure", "")}`;
  const box = html("div", { class: "chart", tabindex: "0", role: "group" });
  const button = html("button", { type: "button", onclick: () => saveDrawing(name, box.querySelector("svg")) }, "Save SVG");
  button.setAttribute("aria-label", `Save as SVG: ${title}`);
  figure.querySelector("figcaption").append(html("span", { class: "controls" }, ...controls, button));
  figure.append(box);
  const self = { figure, box, plot: null, at: -1 };

  self.draw = () => {
    const width = Math.max(least, box.clientWidth);
    if (!width) return;
    const tall = typeof height === "function" ? height(width) : height;
    const margin = { left: 52, right: 14, top: 26, bottom: 44, ...margins };
    const plot = {
      width, height: tall, points: [], left: margin.left, right: width - margin.right, top: margin.top,
      bottom: tall - margin.bottom, svg: svg("svg", { width, height: tall, viewBox: `0 0 ${width} ${tall}`, "aria-hidden": "true" }),
    };
    draw(plot);
    plot.over = svg("g", { "data-over": "" });
    plot.svg.append(plot.over);
    box.replaceChildren(plot.svg);
    box.setAttribute("aria-label", `${title}. ${summary ? summary() : ""}${plot.points.length
      ? ` ${plot.points.length} points; arrow keys move between them, Enter selects a run.` : ""}`);
    self.plot = plot;
    self.at = -1;
    ring(chosen.trial);
  };

  // Ring the points of a run.
  const ring = (number, point) => {
    const plot = self.plot;
    if (!plot) return;
    const points = point ? [point] : [];
    if (number !== null) points.push(...plot.points.filter((p) => p.trial === number && !p.quiet));
    plot.over.replaceChildren(...points.map((p) => svg("circle", { class: "ring", cx: p.x, cy: p.y, r: 8 })));
    if (number !== null && plot.overlay) plot.over.append(...plot.overlay(number));
  };
  self.ring = ring;

  const show = (point, x, y) => {
    ring(chosen.trial, point);
    if (point.trial !== undefined && self.plot.overlay) self.plot.over.append(...self.plot.overlay(point.trial));
    hint(point.text(), x, y);
  };

  box.addEventListener("pointermove", (event) => {
    const bounds = self.plot.svg.getBoundingClientRect();
    const point = nearest(self.plot.points, event.clientX - bounds.left, event.clientY - bounds.top);
    box.style.cursor = point && point.trial !== undefined ? "pointer" : "";
    if (point) show(point, event.clientX, event.clientY);
    else { ring(chosen.trial); unhint(); }
  });
  box.addEventListener("pointerleave", () => { ring(chosen.trial); unhint(); });
  box.addEventListener("click", (event) => {
    const bounds = self.plot.svg.getBoundingClientRect();
    const point = nearest(self.plot.points, event.clientX - bounds.left, event.clientY - bounds.top);
    if (point && point.trial !== undefined) choose(point.trial === chosen.trial ? null : point.trial);
  });
  box.addEventListener("keydown", (event) => {
    const points = self.plot.points.filter((p) => !p.quiet).sort((a, b) => a.x - b.x || a.y - b.y);
    if (!points.length) return;
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      self.at = (self.at + step + points.length + (self.at < 0 && step < 0 ? 1 : 0)) % points.length;
      const point = points[self.at];
      const bounds = self.plot.svg.getBoundingClientRect();
      show(point, bounds.left + point.x, bounds.top + point.y);
      spoken.textContent = point.text().replaceAll("\n", ", ");
    } else if (event.key === "Enter" && self.at >= 0 && points[self.at].trial !== undefined) {
      choose(points[self.at].trial);
    } else if (event.key === "Escape") {
      choose(null);
      unhint();
    }
  });
  box.addEventListener("blur", () => { ring(chosen.trial); unhint(); });

  charts.push(self);
  new ResizeObserver(() => {
    if (self.plot && Math.max(least, box.clientWidth) !== self.plot.width) self.draw();
  }).observe(box);
  self.draw();
  return self;
}

function nearest(points, x, y, within = 22) {
  let best = null;
  let least = within * within;
  for (const point of points) {
    if (point.box) {
      const [left, top, right, bottom] = point.box;
      if (x >= left && x <= right && y >= top && y <= bottom) return point;
      continue;
    }
    const distance = (point.x - x) ** 2 + (point.y - y) ** 2;
    if (distance < least) { least = distance; best = point; }
  }
  return best;
}

// A list of options as a control; `change(index)` is called with the chosen one.
function selector(label, options, change, index = 0) {
  const select = html("select", { "aria-label": label, onchange: () => change(select.selectedIndex) },
    ...options.map((text) => html("option", {}, text)));
  select.selectedIndex = index;
  return select;
}
