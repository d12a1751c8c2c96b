// One candidate: outcomes of a pair, and the chosen one side by side. What browser.js asks of ``view``.
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
const kindOf = (columns) => (columns.kind in ORDER ? columns.kind : "discrete");
const nameOf = (row) => (data.quadrant[row] < 0 ? "error" : data.order[data.quadrant[row]]);

function preview(row) {
  const error = text(data.error_new[row]) ?? text(data.error_old[row]);
  if (nameOf(row) === "error") return error ?? "not scored";
  const [before, after] = [data.old[row], data.new[row]].map((index) => (text(index) ?? "∅").slice(0, 120));
  return before === after ? before : `${before} → ${after}`;
}
const pairBadge = (name) => {
  const [symbol, label] = LABELS[name];
  return make("span", { class: `badge ${name}`, title: label }, symbol, make("span", { class: "sr" }, ` ${label}`));
};

// What is shown of the chosen instance.
function promptsOf(row) {
  const prompts = [data.prompt_old[row], data.prompt_new[row]].map(text);
  if (prompts.some((prompt) => prompt == null)) return [];
  const asked = compare(...prompts, null);
  return [make("details", { class: "input" }, make("summary", {}, "Both prompts"),
    make("div", { class: "columns pair" }, box("Old, prompt", "old", asked.left), box("New, prompt", "new", asked.right)))];
}
function thoughtsOf(row) {
  const thoughts = [data.reasoning_old[row], data.reasoning_new[row]].map(text);
  if (thoughts.every((thought) => thought == null)) return [];
  return [make("details", { class: "input" }, make("summary", {}, "Reasoning, kept apart and not scored"),
    make("div", { class: "columns pair" }, ...["Old", "New"].map((side, at) =>
      (thoughts[at] == null ? null : box(`${side}, reasoning`, side.toLowerCase(), thoughts[at])))))];
}
function pairShown(row) {
  const name = nameOf(row);
  const [target, before, after] = [data.target[row], data.old[row], data.new[row]].map(text);
  const [responseOld, responseNew] = [data.response_old[row], data.response_new[row]].map(text);
  const answers = compare(before, after, target);
  const long = [answers.long];
  const parts = [make("div", { class: "columns" }, box("Target", "target", target), box("Old", "old", answers.left), box("New", "new", answers.right))];
  if (responseOld != null || responseNew != null) {
    const responses = compare(responseOld, responseNew, versus === "old" ? null : target);
    if (versus === "old") long.push(responses.long);
    const plain = versus !== "old";
    parts.push(make("div", { class: "columns pair" },
      box("Old, whole text", "old", plain ? responseOld : responses.left), box("New, whole text", "new", plain ? responseNew : responses.right)));
  }
  return {
    badge: make("span", { class: `badge ${name}` }, `${LABELS[name][0]} ${LABELS[name][1].replace(/flips$/, "flip")}`),
    facts: [fact("old score", figure(data.score_old[row])), fact("new score", figure(data.score_new[row])),
      fact("gain", data.gain[row] == null ? "–" : signed(data.gain[row])),
      ...(data.theme[row] < 0 ? [] : [fact("theme", text(data.theme[row]))])],
    errors: [["Old", text(data.error_old[row])], ["New", text(data.error_new[row])]],
    asked: promptsOf(row),
    answers: [...parts, ...thoughtsOf(row)],
    said: [before === after && before != null && versus === "old" ? "Both answers are the same text. " : "",
      long.some(Boolean) ? "These texts are too long to be compared word by word." : ""],
  };
}

const view = {
  prepare(columns) {
    columns.order = ORDER[kindOf(columns)];
    columns.buttons = [...BUTTONS[kindOf(columns)], ...(columns.quadrant.includes(-1) ? ["error"] : [])];
    columns.searched.push(columns.new, columns.response_new, columns.error_new, columns.prompt_old, columns.prompt_new,
      columns.reasoning_old, columns.reasoning_new);
  },
  is: (row, name) => nameOf(row) === name,
  label: (name) => LABELS[name].join(" "),
  keys() {
    const names = BUTTONS[kindOf(data)];
    return { 4: names.at(-1), ...Object.fromEntries(names.map((name, place) => [place + 1, name])) };
  },
  preview,
  table() {
    const smooth = !["discrete", "changes"].includes(kindOf(data));
    const columns = [
      column('<span class="sr">Outcome</span>', "52px", (row) => data.quadrant[row], (row) => pairBadge(nameOf(row))),
      column("Instance", null, (row) => data.rank[row], idCell),
      column("Gain", smooth ? "92px" : "78px", (row) => data.gain[row] ?? -1e308, (row) => (data.gain[row] == null ? "–" : signed(data.gain[row]))),
    ];
    columns[0].orderable = false; // the buttons above choose outcomes
    columns[2].className = "num";
    return { columns, order: smooth ? [[2, "asc"]] : [] };
  },
  shown: pairShown,
};

