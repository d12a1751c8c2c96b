// The instance browser of the HTML report. Table, sorting and paging are DataTables; this file
// joins them. Texts of the data are only ever set as text nodes, never parsed as markup.
const $ = (id) => document.getElementById(id);
const root = document.documentElement;
root.classList.add("scripted");

const LABELS = {
  both_correct: ["=", "both correct"], positive_flip: ["+", "positive flips"], negative_flip: ["−", "negative flips"],
  both_wrong: ["×", "both wrong"], unchanged: ["=", "unchanged"], error: ["!", "not scored"],
  changed: ["~", "changed"], new_preferred: ["+", "new preferred"], old_preferred: ["−", "old preferred"],
  tied: ["~", "changed, as good"],
};
const ORDER = {
  discrete: ["both_correct", "positive_flip", "negative_flip", "both_wrong"],
  smooth: ["positive_flip", "negative_flip", "unchanged"],
  changes: ["unchanged", "changed"],
  preferences: ["unchanged", "new_preferred", "old_preferred", "tied"],
};
// Outcomes in the order of their buttons and keys, what matters first.
const BUTTONS = {
  discrete: ["negative_flip", "positive_flip", "both_wrong", "both_correct"],
  smooth: ["negative_flip", "positive_flip", "unchanged"],
  changes: ["changed", "unchanged"],
  preferences: ["old_preferred", "new_preferred", "tied", "unchanged"],
};
const TOKEN = /\s+|[\p{L}\p{N}]+|_+|[^\p{L}\p{N}\s_]/gu;
const MAX_TOKENS = 6000;
const MAX_VALUES = 300;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}
const count = (number) => number.toLocaleString("en-US");
const figure = (number) => (number == null ? "–" : String(+number.toFixed(4)).replace("-", "−"));
const signed = (number) => (number > 0 ? "+" : "") + figure(number);

// Theme: the system's, until the reader chooses.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const remembered = (() => { try { return localStorage.getItem("compatcheck-theme"); } catch { return null; } })();
if (remembered === "dark" || remembered === "light") root.dataset.theme = remembered;
function showTheme() {
  const isDark = (root.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  $("theme").setAttribute("aria-pressed", String(isDark));
  $("theme").querySelector(".label").textContent = isDark ? "Light" : "Dark";
  $("theme").setAttribute("aria-label", `Switch to ${isDark ? "light" : "dark"} colours`);
}
$("theme").addEventListener("click", () => {
  const isDark = $("theme").getAttribute("aria-pressed") === "true";
  root.dataset.theme = isDark ? "light" : "dark";
  try { localStorage.setItem("compatcheck-theme", root.dataset.theme); } catch { /* a file may have no storage */ }
  showTheme();
});
dark.addEventListener("change", showTheme);
showTheme();

// State: which comparison, which filters, which instance.
let strings = [];
let comparisons = [];
let current = 0;
let data = null; // the columns of the current comparison
let table = null;
let chosen = null; // row number in data
let versus = "old";
let touched = false; // whether the reader has chosen anything: only then the address follows
const filter = { quadrant: "all", kind: null, words: [], field: -1, value: null, changed: false };
let found = null; // one flag per string: 1 where it holds the word; one array per word

const text = (index) => (index < 0 ? null : strings[index]);
const sections = [...document.querySelectorAll(".comparison")];
const kindOf = (columns) => (columns.kind in ORDER ? columns.kind : "discrete");
const nameOf = (row) => (data.quadrant[row] < 0 ? "error" : data.order[data.quadrant[row]]);

async function unpack(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function prepare(columns) {
  columns.size = columns.id.length;
  columns.order = ORDER[kindOf(columns)];
  columns.buttons = BUTTONS[kindOf(columns)];
  const ids = columns.id.map((id, row) => [strings[id], row]);
  const collator = new Intl.Collator("en", { numeric: true });
  ids.sort((a, b) => collator.compare(a[0], b[0]));
  columns.rank = new Array(columns.size);
  ids.forEach(([, row], rank) => { columns.rank[row] = rank; });
  columns.searched = [columns.id, columns.input, columns.target, columns.old, columns.new, columns.response_old,
    columns.response_new, columns.error_old, columns.error_new, columns.prompt_old, columns.prompt_new,
    columns.reasoning_old, columns.reasoning_new, ...columns.values];
}

// Filters: DataTables asks for every row.
function passes(row) {
  if (filter.quadrant !== "all" && nameOf(row) !== filter.quadrant) return false;
  if (filter.kind !== null && text(data.failure[row]) !== filter.kind) return false;
  if (filter.changed && !data.changed[row]) return false;
  if (filter.field >= 0 && filter.value !== null && data.values[filter.field][row] !== filter.value) return false;
  return found === null || found.every((flags) => data.searched.some((column) => column[row] >= 0 && flags[column[row]]));
}
function find(words) {
  if (!words.length) return null;
  return words.map((word) => Uint8Array.from(strings, (string) => string.toLowerCase().includes(word)));
}

function preview(row) {
  const error = text(data.error_new[row]) ?? text(data.error_old[row]);
  if (nameOf(row) === "error") return error ?? "not scored";
  const [before, after] = [data.old[row], data.new[row]].map((index) => (text(index) ?? "∅").slice(0, 120));
  return before === after ? before : `${before} → ${after}`;
}
function idCell(row) {
  return make("div", {}, make("span", { class: "row-id" }, text(data.id[row]) ?? ""), make("span", { class: "row-preview" }, preview(row)));
}
function badge(name) {
  const [symbol, label] = LABELS[name];
  return make("span", { class: `badge ${name}`, title: label }, symbol, make("span", { class: "sr" }, ` ${label}`));
}
// Sorting and typing see numbers only, so that DataTables never reads a text of the data as HTML.
const column = (title, width, value, show) => ({
  title, width, searchable: false, type: "num", data: null,
  render: (row, type) => (type === "display" ? show(row) : value(row)),
});

function build() {
  const smooth = !["discrete", "changes"].includes(kindOf(data));
  const missing = (number) => (number == null ? -1e308 : number);
  const columns = [
    column("", "52px", (row) => data.quadrant[row], (row) => badge(nameOf(row))),
    column("Instance", null, (row) => data.rank[row], idCell),
    column("Gain", smooth ? "92px" : "78px", (row) => missing(data.gain[row]), (row) => (data.gain[row] == null ? "–" : signed(data.gain[row]))),
  ];
  columns[0].title = '<span class="sr">Outcome</span>';
  columns[0].orderable = false; // the buttons above choose outcomes
  columns[2].className = "num";
  if (table) { table.destroy(); $("instances").replaceChildren(make("caption", { class: "sr" }, "Instances; choose one to see it side by side")); }
  table = new DataTable("#instances", {
    data: Array.from({ length: data.size }, (_, row) => row),
    columns, order: smooth ? [[2, "asc"]] : [], pageLength: window.matchMedia("(max-width: 1080px)").matches ? 6 : 12, deferRender: true, autoWidth: false, searching: true,
    layout: { topStart: null, topEnd: null, top: "info", bottomStart: null, bottomEnd: null, bottom: "paging" },
    language: {
      info: "_START_–_END_ of _TOTAL_", infoFiltered: "(of _MAX_)", infoEmpty: "none of _MAX_", emptyTable: "No instances.",
      zeroRecords: "No instance passes the filters.", thousands: ",",
      paginate: { first: "«", previous: "‹", next: "›", last: "»" },
    },
    createdRow: (element, row) => { element.tabIndex = 0; element.dataset.row = row; },
    drawCallback: () => markChosen(),
  });
  table.search.fixed("filters", (_, row) => passes(row));
  table.draw();
}

function refilter() {
  table.draw();
  $("clear").hidden = filter.quadrant === "all" && filter.kind === null && !filter.words.length && filter.field < 0 && !filter.changed;
  const rows = visible();
  if (!rows.includes(chosen)) choose(rows.length ? rows[0] : null, { quiet: true });
  else detail();
}
const visible = () => table.rows({ search: "applied", order: "applied" }).data().toArray();

function markChosen() {
  for (const element of document.querySelectorAll("#instances tbody tr[data-row]")) {
    const is = Number(element.dataset.row) === chosen;
    element.classList.toggle("chosen", is);
    element.setAttribute("aria-selected", String(is));
  }
}
function choose(row, { quiet = false, focus = false } = {}) {
  chosen = row;
  remember();
  if (row !== null) {
    const place = visible().indexOf(row);
    const page = Math.floor(place / table.page.len());
    if (place >= 0 && page !== table.page()) table.page(page).draw("page");
  }
  markChosen();
  detail();
  if (focus) document.querySelector("#instances tr.chosen")?.focus();
  if (!quiet && window.matchMedia("(max-width: 1080px)").matches) $("detail").scrollIntoView({ block: "start" });
}
function step(by, options) {
  const rows = visible();
  const next = rows.indexOf(chosen) + by;
  if (next >= 0 && next < rows.length) choose(rows[next], options);
}

// The chosen instance, side by side.
function differences(before, after) {
  const [left, right] = [before.match(TOKEN) ?? [], after.match(TOKEN) ?? []];
  if (left.length > MAX_TOKENS || right.length > MAX_TOKENS) return null;
  return diffWords(left, right);
}
function marked(parts, side) {
  const drop = side === "old" ? "added" : "removed";
  const pieces = [];
  for (const part of parts) {
    if (part[drop]) continue;
    const tag = part.removed ? "del" : part.added ? "ins" : null;
    const last = pieces.at(-1);
    if (last?.tag === tag) last.words += part.value.join("");
    else pieces.push({ tag, words: part.value.join("") });
    const [before, between, after] = pieces.slice(-3);
    if (after?.tag && before.tag === after.tag && /^[^\p{L}\p{N}_\n]{1,3}$/u.test(between.words)) { // phrases read better than stripes
      pieces.splice(-3, 3, { tag: after.tag, words: before.words + between.words + after.words });
    }
  }
  return pieces.map(({ tag, words }) => (tag ? make(tag, {}, words) : words));
}
function box(title, kind, content) {
  const body = content == null
    ? make("p", { class: "none" }, kind === "target" ? "no target recorded" : "∅ no answer")
    : make("pre", {}, ...(Array.isArray(content) ? content : [content]));
  return make("div", { class: `text ${kind} against-${versus}` }, make("h4", {}, title), body);
}
function compare(before, after, target) {
  let [left, right] = [before, after];
  let long = false;
  const against = (from, to, side) => {
    if (from == null || to == null) return null;
    const parts = differences(from, to);
    long ||= parts === null;
    return parts && marked(parts, side);
  };
  if (versus === "old") {
    if (before !== after) { left = against(before, after, "old") ?? before; right = against(before, after, "new") ?? after; }
  } else {
    left = against(target, before, "new") ?? before;
    right = against(target, after, "new") ?? after;
  }
  return { left, right, long };
}

function detail() {
  const pane = $("detail");
  if (chosen === null) { pane.replaceChildren(make("p", { class: "muted" }, "Choose an instance to see it side by side.")); return; }
  const row = chosen;
  const name = nameOf(row);
  const [target, before, after] = [data.target[row], data.old[row], data.new[row]].map(text);
  const [responseOld, responseNew] = [data.response_old[row], data.response_new[row]].map(text);
  const rows = visible();
  const place = rows.indexOf(row);
  const fact = (label, value) => make("span", {}, `${label} `, make("b", {}, value));
  const answers = compare(before, after, target);
  const long = [answers.long];
  const parts = [
    make("div", { class: "detail-head" },
      make("h3", {}, text(data.id[row]) ?? ""), make("span", { class: `badge ${name}` }, `${LABELS[name][0]} ${LABELS[name][1].replace(/flips$/, "flip")}`),
      make("div", { class: "detail-nav" },
        make("a", { class: "quiet", href: address(row), onclick: copyLink }, "Link"),
        make("button", { type: "button", class: "quiet back", onclick: () => { $("browser").scrollIntoView(); } }, "↑ List"),
        make("button", { type: "button", class: "quiet", "aria-label": "Previous instance", disabled: place <= 0, onclick: () => { step(-1, { quiet: true }); } }, "‹"),
        make("button", { type: "button", class: "quiet", "aria-label": "Next instance", disabled: place < 0 || place >= rows.length - 1, onclick: () => { step(1, { quiet: true }); } }, "›"))),
    make("div", { class: "facts" },
      fact("old score", figure(data.score_old[row])), fact("new score", figure(data.score_new[row])),
      fact("gain", data.gain[row] == null ? "–" : signed(data.gain[row])),
      ...data.fields.map((field, index) => { const value = text(data.values[index][row]); return value == null ? null : fact(field, value.slice(0, 200)); })),
  ];
  for (const [side, index] of [["Old", data.error_old[row]], ["New", data.error_new[row]]]) {
    if (text(index) != null) parts.push(make("p", { class: "note" }, make("strong", {}, `${side} failed: `), text(index)));
  }
  const input = text(data.input[row]);
  if (input != null) parts.push(make("details", { class: "input", open: true }, make("summary", {}, "Input"), make("pre", { tabindex: "0", "aria-label": "Input" }, input)));
  const prompts = [data.prompt_old[row], data.prompt_new[row]].map(text);
  if (prompts.every((prompt) => prompt != null)) {
    const asked = compare(...prompts, null);
    parts.push(make("details", { class: "input" }, make("summary", {}, "Both prompts"),
      make("div", { class: "columns pair" }, box("Old, prompt", "old", asked.left), box("New, prompt", "new", asked.right))));
  }
  const pressed = (which) => String(versus === which);
  const pick = (which) => () => { versus = which; detail(); $("detail").querySelector('.versus [aria-pressed="true"]').focus(); };
  parts.push(make("div", { class: "versus", role: "group", "aria-label": "What is compared" }, "Differences",
    make("button", { type: "button", "aria-pressed": pressed("old"), onclick: pick("old") }, "old ↔ new"),
    make("button", { type: "button", "aria-pressed": pressed("target"), onclick: pick("target"), disabled: target == null }, "each ↔ target")));
  parts.push(make("div", { class: "columns" }, box("Target", "target", target), box("Old", "old", answers.left), box("New", "new", answers.right)));
  if (responseOld != null || responseNew != null) {
    const responses = compare(responseOld, responseNew, versus === "old" ? null : target);
    if (versus === "old") long.push(responses.long);
    const plain = versus !== "old";
    parts.push(make("div", { class: "columns pair" },
      box("Old, whole text", "old", plain ? responseOld : responses.left), box("New, whole text", "new", plain ? responseNew : responses.right)));
  }
  const thoughts = [data.reasoning_old[row], data.reasoning_new[row]].map(text);
  if (thoughts.some((thought) => thought != null)) {
    parts.push(make("details", { class: "input" }, make("summary", {}, "Reasoning, kept apart and not scored"),
      make("div", { class: "columns pair" }, ...["Old", "New"].map((side, at) =>
        (thoughts[at] == null ? null : box(`${side}, reasoning`, side.toLowerCase(), thoughts[at]))))));
  }
  parts.push(make("p", { class: "legend" }, versus === "old"
    ? "Marked: words only one side has. " : "Marked: words the target does not have. ",
    before === after && before != null && versus === "old" ? "Both answers are the same text. " : "",
    long.some(Boolean) ? "These texts are too long to be compared word by word." : ""));
  pane.replaceChildren(...parts);
}

// An instance has an address of its own: #task/filter/metric/id, each part percent-encoded.
const namesOf = (index) => { const { task, filter: name, metric } = sections[index].dataset; return [task, name, metric]; };
const address = (row) => `#${[...namesOf(current), text(data.id[row]) ?? ""].map(encodeURIComponent).join("/")}`;
function remember() {
  if (!touched || chosen === null) return;
  try { history.replaceState(null, "", address(chosen)); } catch { /* a page in a frame may have no history */ }
}
async function copyLink(event) {
  const link = event.currentTarget;
  event.preventDefault();
  touched = true;
  remember();
  try {
    await navigator.clipboard.writeText(link.href);
    say("The link to this instance is copied.");
  } catch {
    say("The link to this instance is in the address bar.");
  }
}
function follow() { // whether the address named an instance that is here
  let parts;
  try { parts = location.hash.slice(1).split("/").map(decodeURIComponent); } catch { return false; }
  if (parts.length !== 4) return false;
  const index = sections.findIndex((_, place) => namesOf(place).every((name, part) => name === parts[part]));
  if (index < 0) return false;
  if (index !== current || !data) show(index);
  const row = data.id.findIndex((id) => text(id) === parts[3]);
  if (row < 0) { say(`Instance ${parts[3]} is not in this file.`); return false; }
  if (row === chosen) return true;
  resetFilters();
  choose(row, { quiet: true });
  return true;
}
function say(words) { $("status").textContent = ""; $("status").textContent = words; }

// Keys.
function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "Escape" && typing) event.target.blur();
  if (typing) return;
  const filters = { 0: "all", 4: data.buttons.at(-1) };
  data.buttons.forEach((name, place) => { filters[place + 1] = name; });
  touched = true;
  if (event.key === "j") step(1, { quiet: true });
  else if (event.key === "k") step(-1, { quiet: true });
  else if (event.key in filters) setQuadrant(filters[event.key]);
  else if (event.key === "/") $("search").focus();
  else if (event.key === "?") $("keys").showModal();
  else return;
  event.preventDefault();
  if (event.key === "j" || event.key === "k") say(`Instance ${text(data.id[chosen]) ?? ""}`);
  if (event.key !== "?") $(event.key === "/" ? "search" : "panes").scrollIntoView({ block: "nearest" });
}

// Controls.
function quadrantButtons() {
  const counts = { all: data.size };
  for (let row = 0; row < data.size; row += 1) counts[nameOf(row)] = (counts[nameOf(row)] ?? 0) + 1;
  const names = ["all", ...data.buttons];
  if (counts.error) names.push("error");
  $("quadrants").replaceChildren(...names.map((name) => make("button", {
    type: "button", "data-filter": name, "aria-pressed": String(filter.quadrant === name),
    onclick: () => { setQuadrant(name); },
  }, name === "all" ? "All" : `${LABELS[name][0]} ${LABELS[name][1]}`, make("span", { class: "count" }, count(counts[name] ?? 0)))));
}
function setQuadrant(name) {
  filter.quadrant = name;
  for (const button of $("quadrants").children) button.setAttribute("aria-pressed", String(button.dataset.filter === name));
  refilter();
}
function kindOptions() {
  const kinds = JSON.parse(sections[current].dataset.kinds || "[]");
  $("kind-box").hidden = kinds.length === 0;
  $("kind").replaceChildren(make("option", { value: "" }, "any kind of failure"),
    ...kinds.map(([name, words, size]) => make("option", { value: name }, `${words} (${count(size)})`)));
  $("kind").value = filter.kind ?? "";
}
function setKind(name) {
  filter.kind = name;
  $("kind").value = name ?? "";
  if (name !== null && filter.quadrant !== "all") setQuadrant("negative_flip");
  else refilter();
}
function fieldOptions() {
  $("field-box").hidden = data.fields.length === 0;
  $("field").replaceChildren(make("option", { value: "-1" }, "any slice"), ...data.fields.map((field, index) => make("option", { value: index }, field)));
  valueOptions();
}
function valueOptions() {
  $("value-box").hidden = filter.field < 0;
  if (filter.field < 0) return;
  const tally = new Map();
  for (const value of data.values[filter.field]) tally.set(value, (tally.get(value) ?? 0) + 1);
  const values = [...tally].sort((a, b) => b[1] - a[1]);
  const options = values.slice(0, MAX_VALUES).map(([value, size]) =>
    make("option", { value }, `${(text(value) ?? "(none)").slice(0, 80)} (${count(size)})`));
  const rest = values.length - options.length;
  $("value").replaceChildren(make("option", { value: "" }, `any ${data.fields[filter.field]}`), ...options,
    rest > 0 ? make("option", { disabled: true }, `${count(rest)} more: use the search`) : "");
}
function resetFilters() {
  Object.assign(filter, { quadrant: "all", kind: null, words: [], field: -1, value: null, changed: false });
  $("kind").value = "";
  found = null;
  $("search").value = "";
  $("changed").checked = false;
  $("field").value = "-1";
  valueOptions();
  setQuadrant("all");
}

function show(index, { quadrant = null, kind = null } = {}) {
  current = index;
  sections.forEach((section) => section.classList.toggle("current", Number(section.dataset.comparison) === index));
  for (const row of document.querySelectorAll(".overview [data-row]")) {
    const is = Number(row.dataset.row) === index;
    row.classList.toggle("current", is);
    row.querySelector("button").setAttribute("aria-current", String(is));
  }
  if ($("which")) $("which").value = String(index);
  if (!comparisons.length) return;
  data = comparisons[index];
  if (!data.size && data.size !== 0) prepare(data);
  Object.assign(filter, { kind, field: -1, value: null });
  if (!data.order.includes(filter.quadrant) && filter.quadrant !== "error") filter.quadrant = "all";
  if (quadrant) filter.quadrant = quadrant;
  else if (!data.started) filter.quadrant = data.quadrant.includes(data.order.indexOf(data.buttons[0])) ? data.buttons[0] : "all";
  data.started = true;
  chosen = null;
  build();
  quadrantButtons();
  kindOptions();
  fieldOptions();
  refilter();
}

const first = Number(document.querySelector("main").dataset.first);
if (sections.length) show(first);
for (const button of document.querySelectorAll("[data-show]")) button.addEventListener("click", () => show(Number(button.dataset.show)));
$("which")?.addEventListener("change", () => show(Number($("which").value)));

async function start() {
  $("loading").hidden = false;
  if (typeof DecompressionStream === "undefined") throw new Error("This browser cannot unpack the instances; use one from 2023 or later.");
  ({ strings, comparisons } = await unpack($("payload").textContent));
  $("payload").remove();
  for (const id of ["tools", "panes"]) $(id).hidden = false;
  show(current);
  if (follow()) $("browser").scrollIntoView({ behavior: "instant" });
  window.addEventListener("hashchange", () => { if (follow()) $("browser").scrollIntoView(); });
  document.addEventListener("keydown", pressed);
  document.addEventListener("pointerdown", () => { touched = true; });
  $("help").addEventListener("click", () => $("keys").showModal());
  let timer = 0;
  $("search").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      filter.words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
      found = find(filter.words);
      refilter();
    }, 120);
  });
  $("field").addEventListener("change", () => { filter.field = Number($("field").value); filter.value = null; valueOptions(); refilter(); });
  $("value").addEventListener("change", () => { filter.value = $("value").value === "" ? null : Number($("value").value); refilter(); });
  $("kind").addEventListener("change", () => setKind($("kind").value || null));
  for (const button of document.querySelectorAll("[data-kind]")) {
    button.addEventListener("click", () => {
      show(Number(button.dataset.of), { quadrant: "negative_flip", kind: button.dataset.kind });
      $("browser").scrollIntoView();
    });
  }
  $("changed").addEventListener("change", () => { filter.changed = $("changed").checked; refilter(); });
  $("clear").addEventListener("click", resetFilters);
  $("instances").addEventListener("click", (event) => {
    const row = event.target.closest("tbody tr[data-row]");
    if (row) choose(Number(row.dataset.row));
  });
  $("instances").addEventListener("keydown", (event) => {
    if (!event.target.matches("tbody tr[data-row]")) return;
    touched = true;
    if (event.key === "Enter" || event.key === " ") choose(Number(event.target.dataset.row));
    else if (event.key === "ArrowDown") step(1, { quiet: true, focus: true });
    else if (event.key === "ArrowUp") step(-1, { quiet: true, focus: true });
    else return;
    event.preventDefault();
  });
  for (const cell of document.querySelectorAll(".quadrant[data-quadrant]")) {
    cell.addEventListener("click", () => { show(Number(cell.dataset.of), { quadrant: cell.dataset.quadrant }); $("browser").scrollIntoView(); });
  }
}
if ($("payload") && $("browser")) {
  start().catch((error) => { $("trouble").textContent = error.message; $("trouble").hidden = false; })
    .finally(() => { $("loading").hidden = true; });
}
