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

/** Forget the colours of names, because another dashboard is shown. */
export function resetColours() {
  known = new Map();
}

/** Return the CSS variable with a series' colour. wanted: the name of a special colour, or undefined. */
export function variable(name, wanted) {
  if (wanted) return SPECIAL[wanted] ?? wanted;
  if (!known.has(name)) known.set(name, known.size % COUNT);
  return `--series-${known.get(name)}`;
}

const probe = document.createElement("i");
const read = new Map();

/** Return the present value of a CSS variable in a form for canvases: light-dark() is resolved. */
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

/** Return a partly transparent colour. */
export function faded(colour, part) {
  const found = /^rgba?\(([\d.]+)[, ]+([\d.]+)[, ]+([\d.]+)/.exec(colour);
  return found ? `rgba(${found[1]}, ${found[2]}, ${found[3]}, ${part})` : colour;
}

const hearers = new Set();
/** Call a function whenever the colours change. Return a function that ends this. */
export function onColours(hearer) {
  hearers.add(hearer);
  return () => hearers.delete(hearer);
}

export function coloursChanged() {
  read.clear();
  for (const hearer of hearers) hearer();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", coloursChanged);
