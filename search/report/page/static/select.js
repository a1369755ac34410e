// Which runs are drawn, and which run is chosen: one state for all drawings and tables.

const hidden = { kinds: new Set(), states: new Set() };
const chosen = { trial: null };
const visible = () => DATA.trials.filter((trial) => !hidden.kinds.has(trial.kind) && !hidden.states.has(trial.state));

function redraw() {
  for (const one of charts) one.draw();
  if (runsTable) runsTable.draw();
}

let runsTable = null;

function choose(number) {
  chosen.trial = number;
  for (const one of charts) one.ring(number);
  for (const row of document.querySelectorAll("tr[data-trial]")) {
    row.classList.toggle("chosen", Number(row.dataset.trial) === number);
  }
  const panel = document.getElementById("details");
  const trial = byNumber.get(number);
  panel.replaceChildren();
  if (!trial) return;
  const [title, ...lines] = describe(trial).split("\n");
  const close = html("button", { type: "button", onclick: () => choose(null) }, "Close");
  panel.append(
    html("h3", {}, title, close), ...lines.map((line) => html("p", {}, line)),
    html("p", {}, `${trial.epochs[0]} of ${trial.epochs[1]} epochs in ${duration(trial.seconds)}`),
  );
  if (trial.reason) panel.append(html("p", {}, `${trial.state === "failed" ? "Failed" : "Stopped"}: ${trial.reason}`));
  const commands = [`vattn why ${DATA.run} ${trial.n}`];
  if (trial.state === "finished") commands.push(`vattn export ${DATA.run} --pick trial=${trial.n} --out trial-${trial.n}.yaml`);
  panel.append(html("pre", { tabindex: "0" }, html("code", {}, commands.join("\n"))));
}

function mark(kind, hollow) {
  const style = hollow ? { fill: "none", stroke: colour(kind), "stroke-width": 1.5 } : { fill: colour(kind) };
  return svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: shape(kind, 8, 8, 5.5), ...style }));
}

function filters() {
  const bar = document.getElementById("filters");
  const section = document.querySelector("#front .intro");
  section.after(bar);
  const count = (test) => DATA.trials.filter(test).length;
  const group = (title, entries, set) => html("fieldset", {}, html("legend", {}, title), html("span", { class: "legend" },
    ...entries.map(([key, text, icon]) => {
      const box = html("input", { type: "checkbox", checked: true, onchange: () => {
        if (box.checked) set.delete(key); else set.add(key);
        redraw();
      } });
      return html("label", {}, box, icon, text);
    })));
  bar.append(group("Mechanism", DATA.kinds.map((kind, n) => [n, `${kind} (${count((t) => t.kind === n)})`, mark(n, false)]), hidden.kinds));
  const states = Object.keys(STATES).filter((state) => count((t) => t.state === state));
  bar.append(group("State", states.map((state) => [
    state, `${STATES[state]} (${count((t) => t.state === state)})`, mark(0, state !== "finished"),
  ]), hidden.states));
}
