// One card per layer: what it is, its figures, and all of its statistics.

function addCard(row) {
  const { index, name, before } = data.rows[row];
  const card = element("section", { class: "card", id: `layer-${row}`, "aria-labelledby": `layer-title-${row}` });
  card.append(element("h3", { id: `layer-title-${row}` }, `${index}: ${name}`), element("p", { class: "quiet" }, describe(row)));
  if (before !== null) card.append(element("p", { class: "quiet" }, `before: ${before}`));
  const remarks = remarksOf(row);
  if (remarks.length) card.append(element("ul", {}, ...remarks.map((text) => element("li", {}, text))));
  const grid = element("div", { class: "figures" });
  addFigure(grid, { name: `response ${row}`, caption: () => responseCaption(row), build: () => responseFigure(row) });
  addFigure(grid, { name: `poles ${row}`, caption: () => polesCaption(row), build: () => polesFigure(row) });
  addFigure(grid, { name: `hankel ${row}`, caption: "Hankel singular values; dashed: 1 % of the largest", build: () => hankelFigure(row) });
  const all = element("details", {}, element("summary", {}, "All statistics"));
  all.addEventListener("toggle", () => fillDetails(all, row));
  card.append(grid, all);
  document.getElementById("cards").append(card);
}

function describe(row) {
  const { family, shape, inputs, outputs, discretization, step, beta, operatingPoint, gate, average } = data.rows[row];
  const parts = [family, shape];
  if (inputs * outputs > 1) parts.push(`${inputs} in, ${outputs} out`);
  if (discretization) parts.push(`discretization ${discretization}`);
  if (step) parts.push(`step ${span(step)}`);
  if (beta) parts.push(`beta ${span(beta)}`);
  if (gate) parts.push("a decay gate");
  if (operatingPoint) parts.push(`operating point: ${operatingPoint}`);
  if (average) parts.push(`average of weights: ${average}`);
  return parts.join("; ");
}

function span([low, high]) {
  return low === high ? shown(low) : `${shown(low)}..${shown(high)}`;
}

function remarksOf(row) {
  const found = [];
  for (const frame of drawnFrames()) {
    const layer = layerAt(frame, row);
    if (!layer) {
      found.push(`not in ${data.checkpoints[frame].label}`);
      continue;
    }
    if (layer.problem !== null) found.push(`no numbers: ${data.texts[layer.problem]}`);
    for (const place of [...layer.faults, ...layer.notes]) found.push(data.texts[place]);
    for (const place of layer.assumptions) found.push(`assumed: ${data.texts[place]}`);
    if (layer.memory) found.push(memoryText(layer.memory));
  }
  return [...new Set(found)];
}

function memoryText(memory) {
  const shares = memory.map(([tokens, share]) => `over ${tokens / 1024}k tokens in ${shown(100 * share, 3)} %`);
  return `half-life (slowest pole, at the operating point) ${shares.join(", ")} of the copies`;
}

function responseCaption(row) {
  const curve = framesOf(row).map((frame) => curveOf(frame, row)).find((found) => found);
  if (!curve) return magnitudeName(row);
  return `${magnitudeName(row)}${curve.p5 ? ": median and 5..95 % of the copies" : " of a single system"}; dashed: Nyquist`;
}

// All statistics in words, with reasons in full; made when it is opened.
function fillDetails(details, row) {
  details.querySelector("table")?.remove();
  if (!details.open) return;
  const frames = drawnFrames();
  const titles = ["statistic", ...frames.map((frame) => styleOf(frame).name || "median (5..95 %)"), "unit"];
  const lines = data.statistics.map(({ name, unit }) => detailLine(name, unit, frames.map((frame) => valueText(layerAt(frame, row) ? statisticOf(frame, row, name) : undefined))));
  if (data.kind === "pair") {
    for (const { name, unit } of data.distances) lines.push(detailLine(name, unit, [valueText(distanceOf(row, name)), ""]));
  }
  const head = element("thead", {}, element("tr", {}, ...titles.map((title) => element("th", { scope: "col" }, title))));
  details.append(element("table", {}, element("caption", {}, `All statistics of ${data.rows[row].name}`), head, element("tbody", {}, ...lines)));
}

function detailLine(name, unit, values) {
  const title = element("th", { scope: "row" }, element("a", { href: `#definition-${name}` }, name));
  return element("tr", {}, title, ...values.map((text) => element("td", {}, text)), element("td", {}, shownUnit(unit).name));
}

function valueText(found) {
  if (found === undefined) return "no such layer";
  if (!hasValue(found)) return found === null ? "none" : `none: ${data.texts[found]}`;
  const [median, p5, p95] = found;
  return p5 === undefined ? shown(median) : `${shown(median)} (${shown(p5)}..${shown(p95)})`;
}
