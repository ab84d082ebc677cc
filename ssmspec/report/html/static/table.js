// The table of all layers: sorted by its headings, filtered by a text, with the columns that are chosen.

const FIRST = ["low_frequency_share", "peak_gain", "half_life", "effective_order"]; // columns beside the headlines
const table = document.getElementById("table");
const chosen = new Set(data.statistics.filter(({ name, headline }) => headline || FIRST.includes(name)).map(({ name }) => name));
if (data.kind === "pair") data.distances.slice(0, 1).forEach(({ name }) => chosen.add(name));
const sorting = { column: "index", descending: false };
const hiddenRows = new Set();
const reasonNumbers = new Map();

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const plainColumns = [
  { name: "index", title: "#", value: (row) => data.rows[row].index },
  { name: "name", title: "layer", value: (row) => data.rows[row].name },
  { name: "family", title: "family", value: (row) => data.rows[row].family },
  { name: "shape", title: "copies x modes", value: (row) => data.rows[row].copies },
];

function measures() {
  return data.kind === "pair" ? [...data.statistics, ...data.distances] : data.statistics;
}

function shownColumns() {
  return measures().filter(({ name }) => chosen.has(name));
}

function isDistance(name) {
  return !places.has(name);
}

// A distance between before and after, as `statisticOf`.
function distanceOf(row, name) {
  const cell = data.comparison.layers[row]?.distances[data.distances.findIndex((entry) => entry.name === name)];
  if (!hasValue(cell)) return cell ?? null;
  const { factor } = shownUnit(definitions.get(name).unit);
  return cell.map((value) => value * factor);
}

function measureOf(row, name) {
  return isDistance(name) ? distanceOf(row, name) : statisticOf(layerAt(state.frame, row) ? state.frame : 0, row, name);
}

function sortValue(row, name) {
  const own = plainColumns.find((column) => column.name === name);
  if (own) return own.value(row);
  const cell = measureOf(row, name);
  return hasValue(cell) ? cell[0] : null;
}

// Rows in order; a row without a value comes last in either direction.
function sortedRows() {
  const value = new Map(data.rows.map((_, row) => [row, sortValue(row, sorting.column)]));
  const sign = sorting.descending ? -1 : 1;
  return [...value.keys()].sort((a, b) => {
    const [first, second] = [value.get(a), value.get(b)];
    if (first === null || second === null) return (first === null) - (second === null) || a - b;
    const order = typeof first === "string" ? first.localeCompare(second, "en", { numeric: true }) : first - second;
    return sign * order || a - b;
  });
}

function sortBy(name) {
  sorting.descending = sorting.column === name && !sorting.descending;
  sorting.column = name;
  fillTable();
  table.querySelector(`button[data-column="${name}"]`).focus();
}

function heading(name, title, unit, linked) {
  const active = sorting.column === name;
  const arrow = element("span", { class: "arrow", "aria-hidden": "true" }, active ? (sorting.descending ? "▾" : "▴") : "");
  const button = element("button", { type: "button", "data-column": name, onclick: () => sortBy(name) }, title, arrow);
  const cell = element("th", { scope: "col", "aria-sort": active ? (sorting.descending ? "descending" : "ascending") : "none" }, button);
  if (linked) cell.append(element("a", { href: `#definition-${name}`, "aria-label": `definition of ${name}` }, "def."));
  if (unit) cell.append(element("span", { class: "unit" }, unit));
  return cell;
}

function fillTable() {
  reasonNumbers.clear();
  const head = element("tr");
  for (const { name, title } of plainColumns) head.append(heading(name, title, "", false));
  for (const { name, unit } of shownColumns()) head.append(heading(name, name, shownUnit(unit).name, true));
  const body = element("tbody");
  for (const row of sortedRows()) {
    if (!hiddenRows.has(row)) body.append(tableRow(row));
  }
  const caption = element("caption", {}, `Medians over the copies of a layer, and below them the 5..95 % range${captionEnd()}.`);
  table.replaceChildren(caption, element("thead", {}, head), body);
  fillReasons();
}

function captionEnd() {
  if (data.kind === "pair") return "; before → after, and the change of the median";
  return data.kind === "run" ? `, of ${data.checkpoints[state.frame].label}` : "";
}

function tableRow(row) {
  const { index, name, family, shape, inputs, outputs, average } = data.rows[row];
  const link = element("a", { href: `#layer-${row}` }, name);
  const several = inputs * outputs > 1 ? ` (${inputs} in, ${outputs} out)` : "";
  const line = element("tr", {}, element("td", {}, String(index)), element("th", { scope: "row" }, link, average ? ` (average: ${average})` : ""));
  line.append(element("td", {}, family), element("td", {}, shape + several));
  for (const column of shownColumns()) line.append(measureCell(row, column.name));
  return line;
}

function measureCell(row, name) {
  const cell = element("td", { class: "number" });
  if (data.kind === "pair" && !isDistance(name)) {
    cell.append(...pairParts(row, name));
  } else {
    cell.append(...valueParts(measureOf(row, name)));
  }
  return cell;
}

function valueParts(found) {
  if (!hasValue(found)) return [missing(found)];
  const [median, p5, p95] = found;
  return [shown(median), ...(p5 === undefined ? [] : [element("span", { class: "range" }, `${shown(p5)}..${shown(p95)}`)])];
}

function pairParts(row, name) {
  const [before, after] = [0, 1].map((frame) => (layerAt(frame, row) ? statisticOf(frame, row, name) : undefined));
  const text = (found) => (found === undefined ? "no such layer" : hasValue(found) ? shown(found[0]) : missing(found));
  const parts = [text(before), " → ", text(after)];
  const change = data.comparison.layers[row]?.changes[places.get(name)];
  if (change !== null && change !== undefined) {
    const { factor } = shownUnit(definitions.get(name).unit);
    parts.push(element("span", { class: "range" }, `${change > 0 ? "+" : ""}${shown(change * factor, 3)}`));
  }
  return parts;
}

// The word "none" with a link to the reason below the table.
function missing(place) {
  if (place === null || place === undefined) return element("span", { class: "none" }, "none");
  if (!reasonNumbers.has(place)) reasonNumbers.set(place, reasonNumbers.size + 1);
  const number = reasonNumbers.get(place);
  return element("span", { class: "none" }, "none ", element("a", { href: `#reason-${number}`, "aria-label": `reason ${number}` }, `[${number}]`));
}

function fillReasons() {
  const lines = [...reasonNumbers].map(([place, number]) => element("li", { id: `reason-${number}` }, `none: ${data.texts[place]}`));
  document.getElementById("reasons").replaceChildren(...lines);
}

// Which rows a filter hides: `name < number` and `name > number` compare a median, anything else is looked for in names.
function filterTable() {
  const text = document.getElementById("filter").value.trim();
  const [, name, sign, number] = text.match(/^(\w+)\s*([<>])\s*(-?[\d.]+(?:e-?\d+)?)$/i) ?? [];
  const compared = definitions.has(name) && (data.kind === "pair" || !isDistance(name));
  hiddenRows.clear();
  data.rows.forEach(({ name: layer, family }, row) => {
    const value = compared ? sortValue(row, name) : null;
    const kept = compared
      ? value !== null && (sign === "<" ? value < Number(number) : value > Number(number))
      : `${layer} ${family}`.toLowerCase().includes(text.toLowerCase());
    if (!kept) hiddenRows.add(row);
    document.getElementById(`layer-${row}`).hidden = !kept;
  });
  const count = data.rows.length - hiddenRows.size;
  document.getElementById("shown").textContent = `${count} of ${data.rows.length} ${data.rows.length === 1 ? "layer" : "layers"}`;
  fillTable();
}

function fillColumnList() {
  for (const { name } of measures()) {
    const box = element("input", { type: "checkbox", id: `column-${name}` });
    box.checked = chosen.has(name);
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(name);
      else chosen.delete(name);
      if (!chosen.has(sorting.column) && definitions.has(sorting.column)) sorting.column = "index";
      fillTable();
    });
    document.getElementById("column-list").append(element("label", { for: `column-${name}` }, box, name));
  }
}
