// The data of the page, numbers as text, and units.

const data = JSON.parse(document.getElementById("data").textContent);
const state = {
  unit: data.sampleRate === null ? "theta" : "hertz",
  rate: data.sampleRate,
  scale: "log",
  plane: "z",
  frame: data.checkpoints.length - 1,
};
const TWO_PI = 2 * Math.PI;

// A number with four significant digits, or all digits before the point; never more than JSON has.
function shown(value, digits = 4) {
  if (value === 0) return "0";
  const size = Math.floor(Math.log10(Math.abs(Number(value.toPrecision(digits)))));
  if (size >= digits && size < 7) return value.toFixed(0);
  const exponential = size < -4 || size >= digits;
  const [number, power] = (exponential ? value.toExponential(digits - 1) : value.toPrecision(digits)).split("e");
  const short = number.includes(".") ? number.replace(/\.?0+$/, "") : number;
  return power === undefined ? short : `${short}e${power.replace("+", "")}`;
}

// Text for plotly, which reads tags, entities and formulas in what it draws.
function plain(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/\$/g, "&#36;");
}

// The end of a long name, which is the part that tells layers apart.
function short(name, most = 36) {
  const letters = [...name];
  return letters.length <= most ? name : `...${letters.slice(3 - most).join("")}`;
}

// Factor and name of the unit in which a quantity is shown.
function shownUnit(unit) {
  if (unit === "rad/sample") {
    if (state.unit === "cycles") return { factor: 1 / TWO_PI, name: "cycles/sample" };
    if (state.unit === "hertz" && state.rate) return { factor: state.rate / TWO_PI, name: "Hz" };
  }
  if (unit === "samples" && state.unit === "hertz" && state.rate) return { factor: 1 / state.rate, name: "s" };
  return { factor: 1, name: unit };
}

function frequencyTitle() {
  const { name } = shownUnit("rad/sample");
  return name === "rad/sample" ? "θ [rad/sample]" : `frequency [${name}]`;
}

// Base64 of little-endian float32, times a power of two.
function unpacked(stored) {
  if (stored === null) return null;
  const bytes = bytesOf(stored.data);
  const view = new DataView(bytes.buffer);
  const scale = 2 ** stored.exponent;
  return Array.from({ length: bytes.length / 4 }, (_, place) => view.getFloat32(4 * place, true) * scale);
}

function unpackedPlaces(text) {
  const bytes = bytesOf(text);
  return Array.from({ length: bytes.length / 2 }, (_, place) => bytes[2 * place] + 256 * bytes[2 * place + 1]);
}

function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}
