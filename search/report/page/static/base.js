// What all drawings share: the data, elements, numbers as text, colours, the hint at the pointer, saved files.

const DATA = JSON.parse(document.getElementById("data").textContent);
const byNumber = new Map(DATA.trials.map((trial) => [trial.n, trial]));
const STATES = { finished: "finished", stopped: "stopped early", failed: "failed", running: "running", proposed: "waiting" };

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const html = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

// Numbers as text.
function short(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace("e+", "e");
  return String(Number(value.toPrecision(4)));
}

const better = (a, b) => (DATA.measured.maximise ? a > b : a < b);

// The items, in the order of their cost, that are better than all before: they bound what is dominated.
function bounding(items, value) {
  let best = null;
  return items.filter((item) => {
    if (best !== null && !better(value(item), best)) return false;
    best = value(item);
    return true;
  });
}

// A number with one decimal. Ties, which only quarters are, go to the even digit, as in the texts that Python writes.
const tenths = (value) => (Math.abs(value % 1) === 0.25 ? Math.trunc(10 * value) / 10 : value).toFixed(1);
const unit = DATA.measured.rate ? " %" : "";
const measured = (value) =>
  value === null || value === undefined ? "–" : DATA.measured.rate ? tenths(value) + unit : short(value);

function between(low, high) {
  if (low === null || low === undefined || high === null || high === undefined) return "";
  return DATA.measured.rate ? `${tenths(low)} to ${tenths(high)} %` : `${short(low)} to ${short(high)}`;
}

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

// Colours and shapes of kinds. Shapes repeat after six kinds, colours after eight, so that a pair is unique to 24.
const colour = (index) => `var(--c${index % 8})`;

function shape(index, x, y, r) {
  const at = (dx, dy) => `${(x + dx * r).toFixed(1)} ${(y + dy * r).toFixed(1)}`;
  switch (index % 6) {
    case 0: return `M${at(-1, 0)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`;
    case 1: return `M${at(-0.9, -0.9)}L${at(0.9, -0.9)}L${at(0.9, 0.9)}L${at(-0.9, 0.9)}Z`;
    case 2: return `M${at(0, -1.15)}L${at(1.1, 0.85)}L${at(-1.1, 0.85)}Z`;
    case 3: return `M${at(0, -1.25)}L${at(1.1, 0)}L${at(0, 1.25)}L${at(-1.1, 0)}Z`;
    case 4: return `M${at(-1.1, -0.85)}L${at(1.1, -0.85)}L${at(0, 1.15)}Z`;
    default: return `M${at(-0.4, -1.1)}L${at(0.4, -1.1)}L${at(0.4, -0.4)}L${at(1.1, -0.4)}L${at(1.1, 0.4)}L${at(0.4, 0.4)}`
      + `L${at(0.4, 1.1)}L${at(-0.4, 1.1)}L${at(-0.4, 0.4)}L${at(-1.1, 0.4)}L${at(-1.1, -0.4)}L${at(-0.4, -0.4)}Z`;
  }
}

// The hint at the pointer; what the keyboard reaches is spoken as well.
const tip = document.getElementById("tip");
const spoken = document.getElementById("spoken");

function hint(text, x, y) {
  tip.textContent = text;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = x + 14 + box.width > innerWidth ? Math.max(4, x - box.width - 10) : x + 14;
  const top = y + 14 + box.height > innerHeight ? Math.max(4, y - box.height - 10) : y + 14;
  tip.style.left = `${left}px`;
  tip.style.top = `${top}px`;
}

const unhint = () => { tip.hidden = true; };

function describe(trial) {
  const lines = [`trial ${trial.n}, ${STATES[trial.state]}`, trial.model];
  const interval = between(trial.low, trial.high);
  if (trial.y !== null) {
    lines.push(`${DATA.measured.name} ${measured(trial.y)}${interval ? ` (${interval})` : ""}`
      + (trial.state === "finished" ? "" : ` after ${trial.epochs[0]} of ${trial.epochs[1]} epochs`));
  }
  if (trial.forecast) {
    lines.push(`forecast of its last value ${measured(trial.forecast[0])} (${between(trial.forecast[1], trial.forecast[2])})`);
  }
  lines.push(Object.entries(trial.cost).map(([name, value]) => `${name} ${short(value)}`).join(", "));
  if (trial.front) lines.push("on the front");
  return lines.join("\n");
}

function save(name, text, type) {
  const link = html("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  // A busy browser reads it later.
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// A drawing as a file of its own: styles are written into each element, as the file has no style sheet.
function saveDrawing(name, drawing) {
  const copy = drawing.cloneNode(true);
  const wanted = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "opacity", "fill-opacity", "font-family",
    "font-size", "font-weight", "text-anchor", "paint-order"];
  const pairs = [drawing, ...drawing.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((element, n) => {
    const style = getComputedStyle(pairs[n]);
    for (const key of wanted) element.setAttribute(key, style.getPropertyValue(key));
    element.removeAttribute("class");
    element.removeAttribute("style");
  });
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.querySelectorAll("[data-over]").forEach((element) => element.remove());
  const back = getComputedStyle(document.body).backgroundColor;
  copy.prepend(svg("rect", { width: "100%", height: "100%", fill: back }));
  save(`${name}.svg`, new XMLSerializer().serializeToString(copy), "image/svg+xml");
}
