// What the page can do with a script: choose what is shown, sort tables, tell marks' values, change the colours.
// Without it everything is there. No library; nothing is fetched, and nothing kept but the choice of colours.
"use strict";

const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Colours: as the system, light or dark

const themes = ["as the system", "light", "dark"];
const button = document.getElementById("theme");

function remembered() {
  try { return localStorage.getItem("trizoo-theme"); } catch { return null; }
}

function setTheme(name) {
  if (name === themes[0]) delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  button.textContent = `theme: ${name}`;
  try { localStorage.setItem("trizoo-theme", name); } catch { /* a page from disk may have no storage */ }
}

button.hidden = false;
button.addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? themes[0];
  setTheme(themes[(themes.indexOf(now) + 1) % themes.length]);
});
if (themes.includes(remembered())) setTheme(remembered());

// Controls: a block or a row that has a facet is shown where its value is the chosen one

function choose(form) {
  const section = form.closest("section");
  const wanted = all("select", form).filter((select) => select.value);
  const fits = (part) => wanted.every(({ dataset, value }) => {
    const has = part.getAttribute(`data-${dataset.facet}`);
    return has === null || has === value;
  });
  for (const row of all("tbody tr", section)) row.classList.toggle("off", !fits(row));
  for (const mark of all("g.mark", section)) mark.classList.toggle("pale", !fits(mark));
  let shown = 0;
  for (const block of all(".block", section)) {
    const rows = all("tbody tr", block);
    const empty = rows.length > 0 && rows.every((row) => row.classList.contains("off"));
    const off = !fits(block) || empty;
    block.classList.toggle("off", off);
    shown += !off && [...block.attributes].some(({ name }) => name.startsWith("data-"));
  }
  const faceted = all(".block", section).some((block) => [...block.attributes].some(({ name }) => name.startsWith("data-")));
  form.querySelector(".found").textContent =
    faceted && !shown ? "Nothing was measured with this choice: choose “all” in one of them." : "";
}

for (const form of all("form.controls")) {
  form.hidden = false;
  for (const select of all("select", form)) {
    const first = select.querySelector("[data-first]");
    if (first) select.value = first.value;
    select.disabled = select.options.length < 2;
  }
  form.addEventListener("change", () => choose(form));
  form.addEventListener("submit", (event) => event.preventDefault());
  choose(form);
}

// Tables: a click on a heading sorts by it, another one the other way; what is not there stays last

function worth(text) {
  const plain = text.replace(/,(?=\d{3})/g, "").replace("−", "-").replace(/^[<±]\s*/, "");
  const found = plain.match(/^[+-]?\d+(\.\d+)?(e[+-]?\d+)?/i);
  return found ? Number(found[0]) : NaN;
}

const absent = (text) => text === "" || text === "—";

function compare(one, other, numeric) {
  if (!numeric) return one.localeCompare(other, "en", { numeric: true });
  const [left, right] = [worth(one), worth(other)];
  if (Number.isNaN(left) || Number.isNaN(right)) return Number.isNaN(left) - Number.isNaN(right);
  return left - right;
}

function sort(heading) {
  const table = heading.closest("table");
  const place = [...heading.parentNode.children].indexOf(heading);
  const way = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const other of all("th", table)) other.setAttribute("aria-sort", other === heading ? way : "none");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [row, row.cells[place].textContent.trim()]);
  const there = rows.filter(([, text]) => !absent(text));
  const numeric = there.every(([, text]) => !Number.isNaN(worth(text)));
  const sign = way === "ascending" ? 1 : -1;
  there.sort((one, other) => sign * compare(one[1], other[1], numeric));
  body.append(...[...there, ...rows.filter(([, text]) => absent(text))].map(([row]) => row));
}

for (const table of all("table")) {
  if (table.tBodies[0].rows.length < 2) continue;
  for (const heading of all("th", table)) {
    const press = document.createElement("button");
    press.type = "button";
    press.append(...heading.childNodes);
    heading.append(press);
    heading.setAttribute("aria-sort", "none");
    press.addEventListener("click", () => sort(heading));
  }
}

// Figures: a mark's value at the pointer, or by the arrow keys once a figure has the focus

const tip = document.getElementById("tip");
let told = null;

function tell(mark) {
  told?.classList.remove("told");
  told = mark;
  tip.hidden = !mark;
  if (!mark) return;
  mark.classList.add("told");
  tip.textContent = mark.dataset.tip;
  const box = mark.getBoundingClientRect();
  const left = Math.min(box.left + box.width / 2, document.documentElement.clientWidth - tip.offsetWidth - 8);
  tip.style.left = `${window.scrollX + Math.max(8, left)}px`;
  const above = box.top - tip.offsetHeight - 8;
  tip.style.top = `${window.scrollY + (above > 0 ? above : box.bottom + 8)}px`;
}

for (const chart of all("svg.chart")) {
  const marks = all(".mark", chart);
  for (const mark of marks) {
    const title = mark.querySelector("title");
    mark.dataset.tip = title.textContent;
    title.remove();
    mark.addEventListener("pointerenter", () => tell(mark));
    mark.addEventListener("pointerleave", () => tell(null));
  }
  if (!marks.length) continue;
  chart.tabIndex = 0;
  chart.addEventListener("focus", () => { if (!told) tell(marks[0]); });
  chart.addEventListener("blur", () => tell(null));
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") tell(null);
    if (!step) return;
    event.preventDefault();
    tell(marks[(Math.max(0, marks.indexOf(told)) + step + marks.length) % marks.length]);
  });
}
