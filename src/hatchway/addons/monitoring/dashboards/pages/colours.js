// The colours of series. A name keeps its colour in all charts of a dashboard.

const COUNT = 12;
const SPECIAL = {
  good: "--good",
  bad: "--bad",
  warn: "--warn",
  limit: "--limit",
  faint: "--faint",
  accent: "--accent",
};

let known = new Map();

/** Forget which name has which colour: another dashboard begins. */
export function resetColours() {
  known = new Map();
}

/** The CSS variable of a series. wanted: the name of a special colour, or undefined. */
export function variable(name, wanted) {
  if (wanted) return SPECIAL[wanted] ?? wanted;
  if (!known.has(name)) known.set(name, known.size % COUNT);
  return `--series-${known.get(name)}`;
}

const probe = document.createElement("i");
const read = new Map();

/** The present value of a CSS variable, as a canvas takes it: light-dark() is resolved. */
export function colourOf(name) {
  let found = read.get(name);
  if (!found) {
    if (!probe.isConnected) {
      probe.hidden = true;
      document.body.append(probe);
    }
    probe.style.color = `var(${name})`;
    found = getComputedStyle(probe).color;
    read.set(name, found);
  }
  return found;
}

/** A colour that is partly transparent. */
export function faded(colour, part) {
  const found = /^rgba?\(([\d.]+)[, ]+([\d.]+)[, ]+([\d.]+)/.exec(colour);
  return found ? `rgba(${found[1]}, ${found[2]}, ${found[3]}, ${part})` : colour;
}

const hearers = new Set();
/** Call a function when the colours have changed; returns a function that ends this. */
export function onColours(hearer) {
  hearers.add(hearer);
  return () => hearers.delete(hearer);
}

export function coloursChanged() {
  read.clear();
  for (const hearer of hearers) hearer();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", coloursChanged);
