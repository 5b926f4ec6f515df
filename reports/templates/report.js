"use strict";
// Everything is on the page without this script. With it: rows and pictures are chosen by words, numbers compared with
// those of a run, tables sorted, points of a chart told; and the address says what was chosen.

const all = (css, root = document) => [...root.querySelectorAll(css)];
const form = document.getElementById("controls");
const words = document.getElementById("filter");
const base = document.getElementById("base");

// The state is the address behind #: an anchor, and show=..., base=..., open=... for opened details

function read() {
  const parts = location.hash.slice(1).split("&").filter(Boolean);
  const anchor = parts.find((part) => !part.includes("="));
  return [anchor && decodeURIComponent(anchor), new URLSearchParams(parts.filter((part) => part.includes("=")).join("&"))];
}

function write(anchor = read()[0]) {
  const state = new URLSearchParams();
  if (words?.value) state.set("show", words.value);
  if (base?.value) state.set("base", base.value);
  for (const one of all("details[open][id]")) state.append("open", one.id);
  const text = [anchor && encodeURIComponent(anchor), state.toString()].filter(Boolean).join("&");
  history.replaceState(null, "", `#${text}`);
}

function go(anchor) {
  const there = anchor && document.getElementById(anchor);
  if (!there) return;
  for (let one = there; one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true;
  there.scrollIntoView();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  if (!link) return;
  event.preventDefault();
  const anchor = decodeURIComponent(link.hash.slice(1));
  go(anchor);
  write(anchor);
});

// Show only what has all the words; what is around it counts

const choosable = all(".table tbody tr, .item").map((one) => {
  const around = [];
  for (let box = one.parentElement; box && box.tagName !== "MAIN"; box = box.parentElement) {
    around.push(...[...box.children].filter((child) => /^(SUMMARY|H2|H3|CAPTION)$/.test(child.tagName)));
  }
  return [one, [...around, one].map((box) => box.textContent).join(" ").toLowerCase()];
});

function choose() {
  const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const [one, text] of choosable) {
    one.hidden = !wanted.every((word) => text.includes(word));
    count += !one.hidden;
  }
  for (const box of all(".table, details, .pictures, .group, section").reverse()) {
    const inside = choosable.filter(([one]) => box.contains(one));
    box.hidden = inside.length > 0 && inside.every(([one]) => one.hidden);
  }
  document.getElementById("hits").textContent = wanted.length ? `${count} of ${choosable.length} rows and pictures` : "";
}

// Compare with a row: by ratios measured within rounds where there are any, else by the difference in per cent

const COUNTS = ["seeds", "test galaxies", "rounds", "labels"];

function note(cell, text) {
  const small = document.createElement("small");
  small.className = "vs";
  small.textContent = text;
  const bar = cell.querySelector(".bar");
  if (bar) bar.before(small);
  else cell.append(small);
}

function against(cell, ratios) {
  const found = JSON.parse(ratios)[base.value];
  if (found) note(cell, `× ${found[0].toFixed(2)} (${found[1].toFixed(2)} to ${found[2].toFixed(2)})`);
}

function compare() {
  for (const old of all(".vs")) old.remove();
  if (!base?.value) return;
  for (const cell of all("td[data-ratios]")) against(cell, cell.dataset.ratios);
  for (const row of all("tr[data-ratios]")) {
    const heads = [...row.closest("table").tHead.rows[0].cells].map((head) => head.textContent);
    const cell = row.cells[heads.findIndex((head) => head === "images/s" || head === "seconds")];
    if (cell) against(cell, row.dataset.ratios);
  }
  for (const one of all("tr[data-name]:not([data-ratios])")) {
    const row = [...one.parentElement.rows].find((other) => other.dataset.name === base.value);
    if (!row || row === one || row.dataset.ratios) continue;
    const heads = [...one.closest("table").tHead.rows[0].cells].map((head) => head.textContent);
    [...one.cells].forEach((cell, place) => {
      if (COUNTS.includes(heads[place])) return;
      const [mine, other] = [Number(cell.dataset.v), Number(row.cells[place].dataset.v)];
      if (cell.dataset.v && row.cells[place].dataset.v && other) {
        const part = (100 * (mine - other)) / Math.abs(other);
        note(cell, `${part < 0 ? "−" : "+"}${Math.abs(part) < 10 ? Math.abs(part).toPrecision(2) : Math.abs(part).toFixed(0)} %`);
      }
    });
  }
}

// Tables: a heading sorts by it, again the other way; what is not there stays last

function sort(heading) {
  const table = heading.closest("table");
  const place = [...heading.parentNode.children].indexOf(heading);
  const up = heading.getAttribute("aria-sort") !== "ascending";
  for (const other of all("th", table)) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  const worth = (row) => row.cells[place].dataset.v ?? row.cells[place].textContent;
  const missing = (row) => ["", "—"].includes(worth(row));
  const order = (one, other) => worth(one).localeCompare(worth(other), "en", { numeric: true });
  const plain = (one, other) => Number(worth(one)) - Number(worth(other));
  const rows = [...table.tBodies[0].rows];
  const by = rows.every((row) => missing(row) || row.cells[place].dataset.v) ? plain : order;
  rows.sort((one, other) => missing(one) - missing(other) || (up ? by(one, other) : by(other, one)));
  table.tBodies[0].append(...rows);
}

for (const heading of all(".table thead th")) {
  if (heading.closest("table").tBodies[0].rows.length < 2) continue;
  const press = document.createElement("button");
  press.type = "button";
  press.append(...heading.childNodes);
  heading.append(press);
  heading.setAttribute("aria-sort", "none");
  press.addEventListener("click", () => sort(heading));
}

// Charts: a point's value at the pointer, or by the arrow keys once a chart has the focus

const tip = document.createElement("div");
tip.id = "tip";
tip.setAttribute("role", "status");
tip.hidden = true;
document.body.append(tip);
let told = null;

function tell(mark) {
  told?.classList.remove("told");
  told = mark;
  tip.hidden = !mark;
  if (!mark) return;
  mark.classList.add("told");
  tip.textContent = mark.dataset.tip;
  const box = mark.getBoundingClientRect();
  const left = Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 8);
  tip.style.left = `${window.scrollX + Math.max(8, left)}px`;
  tip.style.top = `${window.scrollY + Math.max(8, box.top - tip.offsetHeight - 6)}px`;
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
  chart.addEventListener("blur", () => tell(null));
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") tell(null);
    if (!step) return;
    event.preventDefault();
    tell(marks[(marks.indexOf(told) + step + marks.length) % marks.length]);
  });
}

function restore() {
  const [anchor, state] = read();
  if (words) words.value = state.get("show") ?? "";
  if (base) base.value = state.get("base") ?? "";
  for (const id of state.getAll("open")) document.getElementById(id)?.setAttribute("open", "");
  if (form) choose();
  compare();
  go(anchor);
}

if (form) {
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => { choose(); compare(); write(); });
}
restore();
window.addEventListener("hashchange", restore);
document.addEventListener("toggle", () => write(), true);
