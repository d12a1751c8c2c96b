// Several candidates: which of them broke an instance, and every answer to it. What browser.js asks of ``view``.
const CANDIDATES = JSON.parse(document.querySelector("main").dataset.candidates);
const SIGNS = {
  both_correct: ["=", "both correct"], positive_flip: ["+", "better"], negative_flip: ["−", "worse"],
  both_wrong: ["×", "both wrong"], unchanged: ["=", "unchanged"], changed: ["~", "changed"], new_preferred: ["+", "better"],
  old_preferred: ["−", "worse"], tied: ["~", "changed, as good"], error: ["!", "not scored"], absent: ["·", "not compared"],
};
const GROUPS = {
  discrete: ["both_correct", "positive_flip", "negative_flip", "both_wrong"],
  smooth: ["positive_flip", "negative_flip", "unchanged"],
  changes: ["unchanged", "changed"],
  preferences: ["unchanged", "new_preferred", "old_preferred", "tied"],
};
const SHORT = 30; // characters of answers that stand in narrow columns
const WORSE = ["negative_flip", "changed", "old_preferred", "tied"];
let whole = false; // whether whole texts are unfolded

const outcome = (row, place, columns = data) => {
  const answer = columns.answers[place];
  if (!answer.here[row]) return "absent";
  return answer.quadrant[row] < 0 ? "error" : GROUPS[columns.kind][answer.quadrant[row]];
};
const isWorse = (row, place, columns = data) => WORSE.includes(outcome(row, place, columns));
const tone = (name) => (WORSE.includes(name) ? "worse" : SIGNS[name][0] === "+" ? "better" : "same");

function marks(row) {
  return make("span", { class: "marks" }, ...CANDIDATES.map((name, place) => {
    const is = outcome(row, place);
    return make("span", { class: `mark ${tone(is)}`, title: `${name}: ${SIGNS[is][1]}` },
      make("span", { class: "sr" }, `candidate ${place + 1} ${SIGNS[is][1]} `),
      make("span", { "aria-hidden": "true" }, `${SIGNS[is][0]}${place + 1}`));
  }));
}

function answerOf(row, place) {
  const [answer, is] = [data.answers[place], outcome(row, place)];
  const [target, before, after] = [data.target[row], data.old[row], answer.new[row]].map(text);
  const title = [`${place + 1} ${CANDIDATES[place]} `, make("span", { class: `badge ${is}` }, SIGNS[is].join(" "))];
  if (!["discrete", "changes"].includes(data.kind) && answer.score[row] != null) title.push(` ${figure(answer.score[row])}`);
  const error = text(answer.error[row]);
  const said = make("p", { class: "none" }, error ?? SIGNS[is][1]);
  if (is === "absent" || (is === "error" && after == null)) return make("div", { class: "text" }, make("h4", {}, ...title), said);
  const shown = box("", tone(is), compare(before, after, target).right);
  shown.querySelector("h4").replaceChildren(...title);
  if (is === "error") shown.querySelector("h4").after(said);
  if (answer.response[row] >= 0) shown.append(wholeText(compare(text(data.response_old[row]), text(answer.response[row]), target).right));
  return shown;
}
function wholeText(content) {
  return make("details", { open: whole, ontoggle: (event) => {
    if (event.currentTarget.open === whole) return;
    whole = event.currentTarget.open;
    for (const each of document.querySelectorAll("#detail .text details")) each.open = whole;
  } }, make("summary", {}, "Whole text"), make("pre", {}, ...(Array.isArray(content) ? content : [content])));
}

const view = {
  prepare(columns) {
    if (!(columns.kind in GROUPS)) columns.kind = "discrete";
    columns.broken = columns.id.map((_, row) => CANDIDATES.filter((_name, place) => isWorse(row, place, columns)).length);
    columns.buttons = ["any", ...CANDIDATES.keys()].map(String);
    for (const { new: given, response, error } of columns.answers) columns.searched.push(given, response, error);
  },
  is: (row, name) => (name === "any" ? data.broken[row] > 0 : isWorse(row, Number(name))),
  label(name) {
    const worse = data.kind === "changes" ? "changed" : "worse";
    if (name === "any") return `− ${worse} in any`;
    return make("span", { title: CANDIDATES[name] }, `− ${worse} in ${Number(name) + 1}`);
  },
  keys: () => Object.fromEntries(CANDIDATES.slice(0, 9).map((_, place) => [place + 1, String(place)])),
  preview: (row) => text(data.input[row])?.slice(0, 120) ?? `${text(data.old[row]) ?? "∅"}`.slice(0, 120),
  table() {
    const columns = [
      column("Worse", "84px", (row) => data.broken[row] + 1 - row / data.size, // as embedded: among equal ones those that lose most
        (row) => (data.broken[row] ? `${data.broken[row]} of ${CANDIDATES.length}` : "–")),
      column("Instance", null, (row) => data.rank[row], (row) => { const cell = idCell(row); cell.append(marks(row)); return cell; }),
    ];
    return { columns, order: [[0, "desc"]] };
  },
  shown(row) {
    const [target, before, response] = [data.target[row], data.old[row], data.response_old[row]].map(text);
    const broken = data.broken[row];
    const short = [target, before, ...data.answers.map((answer) => text(answer.new[row]))].every((each) => (each ?? "").length <= SHORT);
    const old = box("Old", "old", versus === "target" && target != null && before != null ? compare(before, before, target).left : before);
    if (response != null) old.append(wholeText(response));
    const score = data.score_old[row];
    return {
      badge: make("span", { class: `badge ${broken ? "negative_flip" : ""}` }, `worse in ${broken} of ${CANDIDATES.length}`),
      facts: score == null ? [] : [fact("old score", figure(score))],
      errors: [["Old", text(data.error_old[row])]],
      asked: [],
      answers: [make("div", { class: `columns every${short ? " short" : ""}` }, box("Target", "target", target), old, ...CANDIDATES.map((_, place) => answerOf(row, place)))],
      said: [],
    };
  },
};

