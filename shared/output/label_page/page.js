// The page on which people label. What is answered is shown and queued at once, then sent, in order, until the server
// says that it is on its disk; every event has a key of its own, so that sending it twice counts once.
"use strict";

const $ = (id) => document.getElementById(id);
const EVERY = 5000, AGAIN = 1500; // ms between questions to the server; before it is tried again
const page = {
  who: null, schema: null, learns: true, galaxies: [], history: [], pending: [], images: new Map(), gone: new Set(),
  finished: false, sending: false, expected: null,
};

const stored = (kind, key, value) => { // private windows may refuse
  try {
    if (value === undefined) return kind.getItem(`trizoo.${key}`);
    kind.setItem(`trizoo.${key}`, value);
  } catch { return null; }
  return value;
};
const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
const words = (name) => { const text = name.replace(/[-_]+/g, " "); return text[0].toUpperCase() + text.slice(1); };

// Talking to the server

async function ask(path, body) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, { ...options, signal: AbortSignal.timeout(20000) });
  const said = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(said.error), { status: answer.status });
  return said;
}

async function send() {
  if (page.sending) return;
  page.sending = true;
  while (page.pending.length) {
    const event = page.pending[0];
    try {
      const said = await ask("label", event);
      page.pending.shift();
      take(said);
      if (said.expected?.length) { page.expected = said.expected; showExpected(); }
      tell("");
    } catch (error) {
      if (error.status === 400) { // not of this run: sending it again would not help
        page.pending.shift();
        tell(`A label was refused: ${error.message}`);
      } else {
        tell(`${trouble(error)} ${page.pending.length} to be sent; trying again.`);
        await new Promise((done) => setTimeout(done, AGAIN));
      }
    }
    stored(sessionStorage, "pending", JSON.stringify(page.pending));
  }
  page.sending = false;
}

const trouble = (error) => error.status ? `The server says: ${error.message}.` : "No connection to the server.";

async function look() { // how the others come on, and whether it is over
  if (page.who && !page.pending.length && !document.hidden) {
    try { take(await ask("state", { who: page.who })); tell(""); } catch (error) { tell(trouble(error)); }
  }
  setTimeout(look, EVERY);
}

async function arrive(who) {
  while (page.who === who) {
    try {
      const said = await ask("arrive", { who });
      if (page.who !== who) return;
      page.schema = said;
      page.learns = said.learns;
      page.history = said.history.map(({ key, row, id, answers }) => ({ key, galaxy: { row, id }, answers }));
      page.pending = JSON.parse(stored(sessionStorage, "pending") ?? "[]").filter((one) => one.who === who);
      for (const { row } of page.pending) page.gone.add(row); // of before a reload; what is left of them comes back after
      tell("");
      take(said);
      send();
      return;
    } catch (error) {
      tell(trouble(error));
      await new Promise((done) => setTimeout(done, AGAIN));
    }
  }
}

// What the server hands out. While something is unsent it knows less than the page: then only new galaxies are taken.
function take(said) {
  const now = page.galaxies[0], known = new Map(page.galaxies.map((one) => [one.row, one]));
  if (page.pending.length) {
    page.galaxies.push(...said.galaxies.filter(({ row }) => !known.has(row) && !page.gone.has(row)));
  } else {
    page.gone.clear();
    page.galaxies = said.galaxies.map((one) => known.get(one.row) ?? one);
    const place = page.galaxies.findIndex((one) => one.row === now?.row);
    if (place > 0) page.galaxies.unshift(...page.galaxies.splice(place, 1));
  }
  page.finished = said.finished;
  for (const { row } of page.galaxies) load(row);
  showProgress(said.progress);
  if (page.galaxies[0] !== now || !now || page.finished) show();
}

function load(row) {
  if (!page.images.has(row)) {
    const image = new Image();
    image.src = `image/${row}`;
    page.images.set(row, image);
    image.decode().then(() => page.galaxies[0]?.row === row && draw(), () => page.images.delete(row));
    if (page.images.size > 40) page.images.delete(page.images.keys().next().value);
  }
  return page.images.get(row);
}

// What a person does

function next(answers) { // the question that is asked after these answers, as the server has it
  const { questions, leads } = page.schema, counted = {};
  for (;;) {
    const asked = questions.find(({ name }) => !(name in counted) && (!leads[name]
      || Object.entries(leads[name]).some(([earlier, some]) => some.includes(counted[earlier]))));
    if (!asked || !(asked.name in answers)) return asked;
    counted[asked.name] = answers[asked.name];
  }
}

function enter(event, change) {
  const galaxy = page.galaxies[0];
  if (!galaxy || page.finished) return;
  event = { who: page.who, key: newKey(), row: galaxy.row, ...event };
  page.history.push({ key: event.key, galaxy, answers: { ...galaxy.answers } });
  queue(event);
  if (change(galaxy)) { page.galaxies.shift(); page.gone.add(galaxy.row); page.expected = null; }
  show();
}

function queue(event) { // what is next on the screen comes first: storing and sending take longer than drawing it
  page.pending.push(event);
  setTimeout(() => {
    stored(sessionStorage, "pending", JSON.stringify(page.pending));
    send();
  });
}

function answer(number) {
  const question = page.galaxies[0] && next(page.galaxies[0].answers), text = question?.answers[number];
  if (text) vote(question.name, text);
}

const vote = (question, text) => enter({ event: "vote", question, answer: text }, (galaxy) => {
  galaxy.answers = { ...galaxy.answers, [question]: text };
  return !next(galaxy.answers);
});
const skip = () => enter({ event: "skip" }, () => true);
const artifact = () => page.schema.artifact ? vote(page.schema.artifact, "artifact") : enter({ event: "artifact" }, () => true);

function undo() {
  const last = page.history.pop();
  if (!last || page.finished) return;
  const { key, galaxy, answers } = last;
  page.gone.delete(galaxy.row);
  page.galaxies = [{ ...galaxy, answers }, ...page.galaxies.filter(({ row }) => row !== galaxy.row)];
  page.expected = null;
  queue({ event: "undo", who: page.who, key: newKey(), row: galaxy.row, of: key });
  load(galaxy.row);
  show();
}

// What is seen

function show() {
  const galaxy = page.galaxies[0], question = galaxy && next(galaxy.answers), over = page.finished || !question;
  $("hello").hidden = true;
  $("work").hidden = over;
  $("over").hidden = !over;
  $("learned").hidden = !page.learns;
  $("finish").disabled = page.finished;
  $("person").hidden = false;
  $("name").textContent = page.who;
  if (over) {
    const [why, what] = page.finished
      ? ["Done, thank you", "All labels are written. The catalogue is being made; this page may be closed."]
      : page.pending.length
        ? ["Waiting for the server", "What you answered is kept here and sent as soon as it can be reached."]
        : ["No galaxy is left for you", "New ones appear here by themselves, if there are any."];
    $("why").textContent = why;
    $("what").textContent = what;
    $("back").hidden = page.finished || !page.history.length;
    return;
  }
  const buttons = question.answers.map((text, number) => {
    const button = document.createElement("button"), key = number < 9 ? `${number + 1}` : number === 9 ? "0" : "";
    button.type = "button";
    for (const one of text === "artifact" ? [key, "A"] : [key]) {
      if (one) button.append(Object.assign(document.createElement("kbd"), { textContent: one }));
    }
    button.append(words(text));
    if (key) button.setAttribute("aria-keyshortcuts", key);
    button.onclick = () => { answer(number); $("question").focus({ preventScroll: true }); };
    return button;
  });
  $("question").textContent = `${words(question.name)}?`;
  $("answers").replaceChildren(...buttons);
  const steps = Object.entries(galaxy.answers).map(([name, text]) => `${words(name)}: ${text.replace(/[-_]+/g, " ")}`);
  $("steps").textContent = steps.join(" · ");
  $("galaxy").textContent = galaxy.id;
  $("undo").disabled = !page.history.length;
  $("artifact").hidden = question.answers.includes("artifact");
  $("image").setAttribute("aria-label", `Galaxy ${galaxy.id}`);
  $("spoken").textContent = `Galaxy ${galaxy.id}. ${words(question.name)}?`;
  showExpected();
  draw();
}

function showExpected() {
  const said = (page.expected ?? []).map(({ likeliest, share, agrees }) =>
    `${likeliest.replace(/[-_]+/g, " ")} ${Math.round(100 * share)} %${agrees ? "" : " (you differ)"}`);
  $("expected").textContent = said.length ? `Expected of the last one: ${said.join(", ")}` : "";
}

function showProgress({ labels, target, people, agreement, information }) {
  $("count").textContent = `${labels}${target ? ` of ${target}` : ""} labels${people > 1 ? ` by ${people} people` : ""}`;
  $("bar").hidden = !target;
  $("bar").max = target || 1;
  $("bar").value = labels;
  if (agreement) {
    const percent = (share) => Math.round(100 * share);
    $("share").textContent = `${percent(agreement.share)} %`;
    $("range").textContent = `${percent(agreement.low)} to ${percent(agreement.high)} %, of ${agreement.answers} random ${agreement.answers > 1 ? "answers" : "answer"}`;
    $("loss").textContent = agreement.loss.toFixed(2) + (agreement.error === null ? "" : ` ± ${agreement.error.toFixed(2)}`);
  }
  if (information) {
    $("left").textContent = information[0].toFixed(3);
    $("begun").textContent = `nats, mean over galaxies; ${information[1].toFixed(3)} at the first fit`;
  }
}

function draw() { // asinh of the mean of the colours, which keeps their ratios (Lupton et al. 2004)
  const galaxy = page.galaxies[0], image = galaxy && page.images.get(galaxy.row), canvas = $("image");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!image?.complete || !image.naturalWidth) {
    context.clearRect(0, 0, canvas.width, canvas.height);
    return;
  }
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  context.drawImage(image, 0, 0);
  const strength = +$("stretch").value, inverted = $("invert").checked;
  if (strength || inverted) {
    const found = context.getImageData(0, 0, canvas.width, canvas.height), data = found.data, a = 2 ** strength / 2;
    const factor = Array.from({ length: 766 }, (_, sum) => sum && strength ? 765 * Math.asinh(a * sum / 765) / Math.asinh(a) / sum : 1);
    for (let i = 0; i < data.length; i += 4) {
      const [r, g, b] = [data[i], data[i + 1], data[i + 2]], by = Math.min(factor[r + g + b], 255 / Math.max(r, g, b, 1));
      for (let c = 0; c < 3; c++) data[i + c] = inverted ? 255 - by * data[i + c] : by * data[i + c];
    }
    context.putImageData(found, 0, 0);
  }
  canvas.dataset.row = galaxy.row;
}

function tell(text) {
  if ($("status").textContent !== text) $("status").textContent = text;
}

function hello() {
  for (const id of ["work", "over", "learned", "person"]) $(id).hidden = true;
  $("hello").hidden = false;
  $("who").value = page.who ?? "";
  page.who = null;
  $("who").focus();
}

function begin(name) {
  page.who = name;
  page.galaxies = [];
  page.history = [];
  $("hello").hidden = true;
  stored(localStorage, "who", name);
  arrive(name);
}

$("hello").onsubmit = (event) => {
  event.preventDefault();
  const name = $("who").value.trim();
  if (name) begin(name);
};
$("rename").onclick = () => { if (!page.pending.length) hello(); };
$("undo").onclick = $("back").onclick = undo;
$("skip").onclick = skip;
$("artifact").onclick = artifact;
$("finish").onclick = async () => {
  if (!confirm("Finish for everybody, and write the catalogue? The same command goes on later.")) return;
  try { await ask("finish", {}); take(await ask("state", { who: page.who })); } catch (error) { tell(trouble(error)); }
};
$("stretch").oninput = $("invert").onchange = () => {
  stored(localStorage, "look", JSON.stringify([$("stretch").value, $("invert").checked]));
  draw();
};
$("keys").onchange = () => stored(localStorage, "keys", $("keys").checked ? "yes" : "no");

addEventListener("keydown", (event) => {
  const typing = event.target.matches("input:not([type=checkbox], [type=range])");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat || !$("keys").checked || !$("hello").hidden) return;
  const key = event.key.toLowerCase(), stretch = $("stretch");
  if (/^[0-9]$/.test(key)) answer(key === "0" ? 9 : key - 1);
  else if (key === "u" || key === "backspace") undo();
  else if (key === "s") skip();
  else if (key === "a") artifact();
  else if (key === "i") { $("invert").checked = !$("invert").checked; $("invert").onchange(); }
  else if (key === "[" || key === "]") { stretch.value = +stretch.value + (key === "]" ? 1 : -1); stretch.oninput(); }
  else return;
  event.preventDefault();
});

const [strength, inverted] = JSON.parse(stored(localStorage, "look") ?? "[0, false]");
$("stretch").value = strength;
$("invert").checked = inverted;
$("keys").checked = stored(localStorage, "keys") !== "no";
const name = stored(localStorage, "who");
if (name) begin(name); else hello();
setTimeout(look, EVERY);
