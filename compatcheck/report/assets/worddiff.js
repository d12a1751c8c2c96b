// Word differences: the shortest edit script between two lists of words (Myers 1986, "An O(ND) difference algorithm").
const MAX_EDITS = 2000; // beyond this two texts have little in common and a difference would be all stripes

// Parts {value: [words], removed, added} in order, or null where the texts are too different.
function diffWords(before, after) {
  let head = 0;
  while (head < before.length && head < after.length && before[head] === after[head]) head += 1;
  let tail = 0;
  while (tail < before.length - head && tail < after.length - head
    && before[before.length - 1 - tail] === after[after.length - 1 - tail]) tail += 1;
  const edits = shortestEdits(before.slice(head, before.length - tail), after.slice(head, after.length - tail));
  if (edits === null) return null;
  const parts = [];
  const push = (value, kind) => {
    const last = parts.at(-1);
    if (last && Boolean(last.removed) === (kind === "removed") && Boolean(last.added) === (kind === "added")) last.value.push(value);
    else parts.push({ value: [value], removed: kind === "removed", added: kind === "added" });
  };
  before.slice(0, head).forEach((word) => push(word, "same"));
  edits.forEach(([word, kind]) => push(word, kind));
  before.slice(before.length - tail).forEach((word) => push(word, "same"));
  return parts;
}

// reach[k] is the furthest place in `before` on diagonal k (place in before − place in after) after `edits` edits.
function shortestEdits(before, after) {
  const [n, m] = [before.length, after.length];
  const limit = Math.min(n + m, MAX_EDITS);
  const rounds = [];
  let reach = new Map([[1, 0]]);
  for (let edits = 0; edits <= limit; edits += 1) {
    const next = new Map();
    for (let k = -edits; k <= edits; k += 2) {
      const down = k === -edits || (k !== edits && reach.get(k - 1) < reach.get(k + 1));
      let x = down ? reach.get(k + 1) : reach.get(k - 1) + 1;
      while (x < n && x - k < m && before[x] === after[x - k]) x += 1;
      next.set(k, x);
      if (x >= n && x - k >= m) return walkBack(before, after, rounds, edits, reach, k);
    }
    rounds.push(reach);
    reach = next;
  }
  return null;
}

function walkBack(before, after, rounds, edits, reach, k) {
  const found = [];
  let [x, y] = [before.length, after.length];
  for (let round = edits; round >= 0; round -= 1) {
    const earlier = round === edits ? reach : rounds[round];
    const down = k === -round || (k !== round && earlier.get(k - 1) < earlier.get(k + 1));
    const from = down ? k + 1 : k - 1;
    const start = round === 0 ? 0 : earlier.get(from);
    const [beforeStart, afterStart] = round === 0 ? [0, 0] : down ? [start, start - from + 1] : [start + 1, start - from];
    while (x > beforeStart && y > afterStart) { found.push([before[--x], "same"]); y -= 1; }
    if (round === 0) break;
    if (down) found.push([after[--y], "added"]);
    else found.push([before[--x], "removed"]);
    k = from;
  }
  return found.reverse();
}
