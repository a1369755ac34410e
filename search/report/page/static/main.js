// Start: theme, drawings, buttons of the tables, and news from the server while a search runs.

function theme() {
  const button = document.getElementById("theme");
  const root = document.documentElement;
  const wanted = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => { try { return sessionStorage.getItem("theme"); } catch { return null; } };
  const apply = (name) => {
    root.dataset.theme = name;
    root.style.colorScheme = name;
    button.textContent = name === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${name === "dark" ? "light" : "dark"} colours`);
  };
  apply(stored() || (wanted.matches ? "dark" : "light"));
  wanted.addEventListener("change", () => { if (!stored()) apply(wanted.matches ? "dark" : "light"); });
  button.addEventListener("click", () => {
    const name = root.dataset.theme === "dark" ? "light" : "dark";
    try { sessionStorage.setItem("theme", name); } catch { /* a page from a file may have no storage */ }
    apply(name);
  });
}

function saveButtons() {
  for (const place of document.querySelectorAll("[data-table]")) {
    const name = place.dataset.table;
    const [title, csv, latex] = (DATA.tables || {})[name] || [];
    if (!csv) continue;
    const button = (text, end, content, type) => {
      const node = html("button", { type: "button", onclick: () => save(`${DATA.name}-${name}.${end}`, content, type) }, text);
      node.setAttribute("aria-label", `Save as ${text}: ${title}`);
      return node;
    };
    place.querySelector(".bar").append(html("span", { class: "controls" },
      button("CSV", "csv", csv, "text/csv"), button("LaTeX", "tex", latex, "text/x-tex")));
  }
}

function rows() {
  document.addEventListener("click", (event) => {
    const row = event.target.closest("[data-trial]");
    if (!row || event.target.closest("button, a")) return;
    const number = Number(row.dataset.trial);
    choose(number === chosen.trial ? null : number);
  });
}

// The page of a running search is loaded again when there is news; the browser keeps the place on it.
function news() {
  if (!DATA.version) return;
  setInterval(async () => {
    try {
      const answer = await fetch("version", { cache: "no-store" });
      if (answer.ok && (await answer.text()) !== DATA.version && !document.activeElement?.matches("input, select")) location.reload();
    } catch { /* the server has ended; the page stays as it is */ }
  }, 2000);
}

theme();
filters();
front();
difference();
clips();
course();
parallel();
allRuns();
saveButtons();
rows();
news();
document.documentElement.dataset.ready = "yes";
