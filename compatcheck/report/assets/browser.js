// The instance browser of the HTML report. Table, sorting and paging are DataTables; this file joins them. What an
// instance is, pair.js (OLD and NEW) or candidates.js says, as ``view``. Texts of the data are only ever set as text
// nodes, never parsed as markup.
const $ = (id) => document.getElementById(id);
const root = document.documentElement;
root.classList.add("scripted");

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

// A text that scrolls can be reached with the keyboard, and one that does not is no stop on the way.
function reachScrolling() {
  for (const each of document.querySelectorAll(".flip .text pre")) {
    if (each.scrollHeight > each.clientHeight) each.tabIndex = 0;
    else each.removeAttribute("tabindex");
  }
}
window.addEventListener("resize", reachScrolling);
reachScrolling();

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

async function unpack(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function prepare(columns) {
  columns.size = columns.id.length;
  const ids = columns.id.map((id, row) => [strings[id], row]);
  const collator = new Intl.Collator("en", { numeric: true });
  ids.sort((a, b) => collator.compare(a[0], b[0]));
  columns.rank = new Array(columns.size);
  ids.forEach(([, row], rank) => { columns.rank[row] = rank; });
  columns.searched = [columns.id, columns.input, columns.target, columns.old, columns.response_old, columns.error_old, ...columns.values];
  view.prepare(columns);
}

// Filters: DataTables asks for every row.
function passes(row) {
  if (filter.quadrant !== "all" && !view.is(row, filter.quadrant)) return false;
  if (filter.kind !== null && text(data.failure[row]) !== filter.kind && text(data.theme[row]) !== filter.kind) return false;
  if (filter.changed && !data.changed[row]) return false;
  if (filter.field >= 0 && filter.value !== null && data.values[filter.field][row] !== filter.value) return false;
  return found === null || found.every((flags) => data.searched.some((column) => column[row] >= 0 && flags[column[row]]));
}
function find(words) {
  if (!words.length) return null;
  return words.map((word) => Uint8Array.from(strings, (string) => string.toLowerCase().includes(word)));
}

function idCell(row) {
  return make("div", {}, make("span", { class: "row-id" }, text(data.id[row]) ?? ""), make("span", { class: "row-preview" }, view.preview(row)));
}
// Sorting and typing see numbers only, so that DataTables never reads a text of the data as HTML.
const column = (title, width, value, show) => ({
  title, width, searchable: false, type: "num", data: null,
  render: (row, type) => (type === "display" ? show(row) : value(row)),
});

function build() {
  const { columns, order } = view.table();
  if (table) { table.destroy(); $("instances").replaceChildren(make("caption", { class: "sr" }, "Instances; choose one to see it side by side")); }
  table = new DataTable("#instances", {
    data: Array.from({ length: data.size }, (_, row) => row),
    columns, order, pageLength: window.matchMedia("(max-width: 1080px)").matches ? 6 : 12, deferRender: true, autoWidth: false, searching: true,
    layout: { topStart: null, topEnd: null, top: "info", bottomStart: null, bottomEnd: null, bottom: "paging" },
    language: {
      info: "_START_–_END_ of _TOTAL_", infoFiltered: "(of _MAX_)", infoEmpty: "none of _MAX_", emptyTable: "No instances.",
      zeroRecords: "No instance passes the filters.", thousands: ",",
      paginate: { first: "«", previous: "‹", next: "›", last: "»" },
    },
    createdRow: (element, row) => { element.tabIndex = 0; element.dataset.row = row; },
    drawCallback: () => markChosen(),
  });
  table.search.fixed("filters", (_, row) => passes(row)); // drawn by refilter
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

const fact = (label, value) => make("span", {}, `${label} `, make("b", {}, value));
function detail() {
  const pane = $("detail");
  if (chosen === null) { pane.replaceChildren(make("p", { class: "muted" }, "Choose an instance to see it side by side.")); return; }
  const row = chosen;
  const rows = visible();
  const place = rows.indexOf(row);
  const shown = view.shown(row); // {badge, facts, errors, asked, answers, said}
  const input = text(data.input[row]);
  const pressed = (which) => String(versus === which);
  const pick = (which) => () => { versus = which; detail(); $("detail").querySelector('.versus [aria-pressed="true"]').focus(); };
  pane.replaceChildren(...[
    make("div", { class: "detail-head" },
      make("h3", {}, text(data.id[row]) ?? ""), shown.badge,
      make("div", { class: "detail-nav" },
        make("a", { class: "quiet", href: address(row), onclick: copyLink }, "Link"),
        make("button", { type: "button", class: "quiet back", onclick: () => { $("browser").scrollIntoView(); } }, "↑ List"),
        make("button", { type: "button", class: "quiet", "aria-label": "Previous instance", disabled: place <= 0, onclick: () => { step(-1, { quiet: true }); } }, "‹"),
        make("button", { type: "button", class: "quiet", "aria-label": "Next instance", disabled: place < 0 || place >= rows.length - 1, onclick: () => { step(1, { quiet: true }); } }, "›"))),
    make("div", { class: "facts" }, ...shown.facts,
      ...data.fields.map((field, index) => { const value = text(data.values[index][row]); return value == null ? null : fact(field, value.slice(0, 200)); })),
    ...shown.errors.filter(([, error]) => error != null).map(([side, error]) => make("p", { class: "note" }, make("strong", {}, `${side} failed: `), error)),
    input == null ? null : make("details", { class: "input", open: true }, make("summary", {}, "Input"), make("pre", { tabindex: "0", "aria-label": "Input" }, input)),
    ...shown.asked,
    make("div", { class: "versus", role: "group", "aria-label": "What is compared" }, "Differences",
      make("button", { type: "button", "aria-pressed": pressed("old"), onclick: pick("old") }, "old ↔ new"),
      make("button", { type: "button", "aria-pressed": pressed("target"), onclick: pick("target"), disabled: data.target[row] < 0 }, "each ↔ target")),
    ...shown.answers,
    make("p", { class: "legend" }, versus === "old" ? "Marked: words only one side has. " : "Marked: words the target does not have. ", ...shown.said),
  ].filter((part) => part != null));
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
  const filters = { 0: "all", ...view.keys() };
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
  const names = ["all", ...data.buttons];
  const size = (name) => data.id.reduce((sum, _, row) => sum + (name === "all" || view.is(row, name)), 0);
  $("quadrants").replaceChildren(...names.map((name) => make("button", {
    type: "button", "data-filter": name, "aria-pressed": String(filter.quadrant === name),
    onclick: () => { setQuadrant(name); },
  }, name === "all" ? "All" : view.label(name), make("span", { class: "count" }, count(size(name))))));
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
const outcomeOfKinds = () => (data.buttons.includes("negative_flip") ? "negative_flip" : "all");
function setKind(name) {
  filter.kind = name;
  $("kind").value = name ?? "";
  if (name !== null && filter.quadrant !== "all") setQuadrant(outcomeOfKinds());
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
  for (const row of document.querySelectorAll(".overview [data-row], .by-candidate [data-row]")) {
    const is = Number(row.dataset.row) === index;
    row.classList.toggle("current", is);
    row.querySelector("button").setAttribute("aria-current", String(is));
  }
  if ($("which")) $("which").value = String(index);
  if (!comparisons.length) return;
  data = comparisons[index];
  if (!data.size && data.size !== 0) prepare(data);
  Object.assign(filter, { kind, field: -1, value: null });
  if (!data.buttons.includes(filter.quadrant)) filter.quadrant = "all";
  if (quadrant) filter.quadrant = quadrant;
  else if (!data.started) filter.quadrant = data.id.some((_, row) => view.is(row, data.buttons[0])) ? data.buttons[0] : "all";
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
      show(Number(button.dataset.of), { kind: button.dataset.kind });
      setQuadrant(outcomeOfKinds());
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
