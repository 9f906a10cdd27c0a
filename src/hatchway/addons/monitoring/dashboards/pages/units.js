// Formats numbers for people: bytes, cores, seconds, requests per second, shares.

const sign = (value) => (value < 0 ? "-" : "");

/** Return a number with about three digits: 0.0123, 1.23, 12.3, 123, without zeros at the end. */
export function digits(value, count = 3) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 10 ** (count - 1)) return Math.round(value).toLocaleString("en");
  const places = Math.min(6, Math.max(0, count - 1 - Math.floor(Math.log10(size))));
  return String(Number(value.toFixed(places)));
}

function scaled(value, base, names, unit = "") {
  let size = Math.abs(value),
    at = 0;
  while (size >= base * 0.9995 && at < names.length - 1) {
    size /= base;
    at += 1;
  }
  return `${sign(value)}${digits(size)}${names[at] || unit ? " " : ""}${names[at]}${unit}`;
}

const BINARY = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"],
  DECIMAL = ["", "k", "M", "G", "T"];

function seconds(value) {
  const size = Math.abs(value);
  if (size === 0) return "0 s";
  if (size < 0.001) return `${digits(value * 1e6)} µs`;
  if (size < 1) return `${digits(value * 1e3)} ms`;
  if (size < 120) return `${digits(value)} s`;
  if (size < 7200) return `${digits(value / 60)} min`;
  return size < 172_800 ? `${digits(value / 3600)} h` : `${digits(value / 86_400)} d`;
}

const SPECIAL = (value) => (Number.isNaN(value) ? "NaN" : value > 0 ? "+∞" : "-∞");

const FORMATS = {
  bytes: (value) => scaled(value, 1024, BINARY),
  byterate: (value) => `${scaled(value, 1024, BINARY)}/s`,
  cores: (value) => digits(value),
  seconds,
  rate: (value) => `${Math.abs(value) < 1000 ? digits(value) : scaled(value, 1000, DECIMAL)}/s`,
  share: (value) => `${digits(value * 100)}%`,
  count: (value) => (Math.abs(value) < 10_000 ? digits(value, 4) : scaled(value, 1000, DECIMAL)),
  plain: (value) =>
    value !== 0 && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e15) ? value.toExponential(3) : digits(value, 5),
};

/** Return the name of a unit beside a chart's title. */
export const UNIT_NAMES = {
  cores: "cores",
  count: "",
  plain: "",
  bytes: "",
  byterate: "",
  seconds: "",
  rate: "",
  share: "",
};

/** Return a value with its unit. */
export function format(value, unit = "plain") {
  if (value === null || value === undefined) return "–";
  return Number.isFinite(value) ? FORMATS[unit](value) : SPECIAL(value);
}

/** Return a value with its unit, where the surrounding text does not show the unit. */
export const spoken = (value, unit) =>
  `${format(value, unit)}${unit === "cores" && Number.isFinite(value) ? (value === 1 ? " core" : " cores") : ""}`;

const POWERS = Array.from({ length: 60 }, (_, power) => 2 ** power);
const WHOLE = Array.from({ length: 12 }, (_, power) => [1, 2, 5].map((one) => one * 10 ** power)).flat();
/** Return the steps of an axis: powers of two for bytes, whole numbers for counts; undefined for the usual steps. */
export const increments = (unit) => ({ bytes: POWERS, byterate: POWERS, count: WHOLE })[unit];

const numberOf = new Intl.NumberFormat("en");
export const counted = (number, one, many = one + "s") => `${numberOf.format(number)} ${number === 1 ? one : many}`;
