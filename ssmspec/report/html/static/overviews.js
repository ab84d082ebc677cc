// Figures of all layers over the depth of the model, and over the steps of a run.

const RANGE = 80; // dB below the highest level at which a heat map stops
const MOST_TICKS = 32;
const MOST_FULL_CURVES = 24;
const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"];

// A color for a layer by its depth, with enough contrast to the page.
function depthColor(row) {
  const share = data.rows.length > 1 ? row / (data.rows.length - 1) : 0.5;
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
  const at = (dark ? 0.35 + 0.65 * share : 0.75 * share) * (CIVIDIS.length - 1);
  const [low, part] = [Math.floor(at), at % 1];
  const channels = [1, 3, 5].map((start) => {
    const [a, b] = [low, Math.min(low + 1, CIVIDIS.length - 1)].map((place) => parseInt(CIVIDIS[place].slice(start, start + 2), 16));
    return Math.round(a + (b - a) * part);
  });
  return `rgb(${channels.join(",")})`;
}

// The layers that have a tick, and what is written there.
function rowTicks() {
  const every = Math.ceil(data.rows.length / MOST_TICKS);
  const rows = data.rows.map((_, row) => row).filter((row) => row % every === 0);
  const side = data.rows.length <= 12 ? 36 : 24;
  return { rows, names: rows.map((row) => `${data.rows[row].index}: ${short(data.rows[row].name, side)}`) };
}

// The axis of layers, with the room that their names need: measured here, since plotly would draw the figure twice for it.
function depthLayout(own = {}) {
  const { rows, names } = rowTicks();
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = `${FONT_SIZE}px ${getComputedStyle(document.body).fontFamily}`;
  const widest = largest(names.map((name) => pen.measureText(name).width));
  return {
    margin: { ...MARGIN, l: Math.ceil(widest) + 40 },
    yaxis: { tickvals: rows, ticktext: names.map(plain), range: [data.rows.length - 0.5, -0.5], title: "layer", ...own },
  };
}

function listHeight() {
  return Math.max(220, Math.min(900, 110 + 22 * Math.min(data.rows.length, 40)));
}

// The highest stored value of the median in every bin, so that layers share their frequencies.
function levels(frame, row) {
  const curve = curveOf(frame, row);
  return curve && curve.median.map((value) => (value > 0 ? 20 * Math.log10(value) : -Infinity));
}

// Even edges let plotly draw a heat map as a picture of one pixel per value, so the last bin ends one grid point after Nyquist.
function binEdges(factor) {
  const step = Math.log10(theta[1] / theta[0]);
  return bins.map((place) => Math.log10(theta[0] * factor) + place * step);
}

function logTicks(edges) {
  const ticks = { tickvals: [], ticktext: [] };
  for (let power = Math.floor(edges[0]); power <= Math.ceil(edges[edges.length - 1]); power++) {
    for (const digit of [1, 2, 5]) {
      const at = power + Math.log10(digit);
      if (at >= edges[0] && at <= edges[edges.length - 1]) {
        ticks.tickvals.push(at);
        ticks.ticktext.push(shown(digit * 10 ** power, 1));
      }
    }
  }
  return ticks;
}

function heatmap(values, texts, coloring, label) {
  const { factor } = shownUnit("rad/sample");
  const edges = binEdges(factor);
  return {
    label,
    traces: [
      {
        type: "heatmap",
        x: edges,
        y: data.rows.map((_, row) => row),
        z: values,
        hoverinfo: "text",
        hovertext: texts,
        hoverongaps: false,
        ...coloring,
        colorbar: { title: { text: coloring.bar, side: "right" }, thickness: 14, outlinewidth: 0 },
      },
    ],
    layout: {
      xaxis: { title: frequencyTitle(), ...logTicks(edges), showgrid: false },
      ...depthLayout({ showgrid: false }),
    },
  };
}

// Level of the median |H| of every layer; zero is drawn as the bottom of the range.
function levelFigure() {
  const found = data.rows.map((_, row) => levels(state.frame, row));
  const heard = found.flatMap((line) => line ?? []).filter((value) => Number.isFinite(value));
  if (!heard.length) return "There are no values to draw.";
  const everything = data.kind === "run" ? data.layers.flatMap((_, frame) => data.rows.flatMap((_, row) => levels(frame, row) ?? [])) : heard;
  const high = largest(everything);
  const low = Math.max(smallest(everything.filter((value) => Number.isFinite(value))), high - RANGE);
  const { factor, name: unit } = shownUnit("rad/sample");
  const texts = found.map((line, row) => {
    const [curve, name] = [curveOf(state.frame, row), label(row)];
    return bins.slice(1).map((_, bin) => (line ? `${name}<br>at ${shown(curve.theta[bin] * factor)} ${unit}<br>|H| = ${shown(curve.median[bin])}` : ""));
  });
  const values = found.map((line) => (line ?? bins.slice(1).map(() => null)).map((value) => (value === null ? null : Math.max(value, low))));
  return heatmap(values, texts, { colorscale: "Cividis", zmin: low, zmax: high, bar: "|H| [dB]" }, "heat map of the level of |H| of every layer");
}

// Level after minus level before.
function changeFigure() {
  const values = data.rows.map((_, row) => {
    const [before, after] = [levels(0, row), levels(1, row)];
    return before && after ? after.map((value, bin) => finiteOrNull(value - before[bin])) : bins.slice(1).map(() => null);
  });
  const sizes = values.flat().filter((value) => value !== null).map(Math.abs);
  if (!sizes.length) return "No layer has |H| in both checkpoints.";
  const most = largest(sizes) || 1;
  const { factor, name: unit } = shownUnit("rad/sample");
  const texts = values.map((line, row) => line.map((value, bin) => (value === null ? "" : changeText(row, bin, value, factor, unit))));
  const coloring = { colorscale: "RdBu", zmin: -most, zmax: most, bar: "change of |H| [dB]" };
  return heatmap(values, texts, coloring, "heat map of the change of |H| of every layer from before to after");
}

function changeText(row, bin, value, factor, unit) {
  const at = shown(Math.sqrt(theta[bins[bin]] * theta[bins[bin + 1] - 1]) * factor);
  return `${label(row)}<br>near ${at} ${unit}<br>${value > 0 ? "+" : ""}${shown(value, 3)} dB`;
}

function finiteOrNull(value) {
  return Number.isFinite(value) ? value : null;
}

function largest(values) {
  return values.reduce((a, b) => Math.max(a, b), -Infinity);
}

function smallest(values) {
  return values.reduce((a, b) => Math.min(a, b), Infinity);
}

function mediansCaption() {
  const which = data.kind === "pair" ? " after" : "";
  const few = data.rows.length > MOST_FULL_CURVES ? ", the higher of every two points" : "";
  return `Median |H|${which} of all layers${few}, from the first (dark) to the last (bright); dashed: Nyquist`;
}

// Of many layers, half of the points: they lie closer than the lines.
function thinned({ theta: angles, median }) {
  if (data.rows.length <= MOST_FULL_CURVES) return { theta: angles, median };
  const kept = angles.map((_, place) => place).filter((place) => place % 2 === 0);
  const places = kept.map((place) => (median[place + 1] > median[place] ? place + 1 : place));
  return { theta: places.map((place) => angles[place]), median: places.map((place) => median[place]) };
}

// Neighbors in one path and one color where there are many layers: plotly takes its time for each path.
function grouped(lines, size) {
  const firsts = lines.filter((_, place) => place % size === 0);
  return firsts.map((first, group) => {
    const members = lines.slice(group * size, (group + 1) * size);
    const joined = (key, gap) => members.flatMap((line, place) => (place ? [gap, ...line[key]] : line[key]));
    return { ...first, x: joined("x", null), y: joined("y", null), hovertext: joined("hovertext", "") };
  });
}

// Median |H| of all layers in one figure.
function mediansFigure() {
  const rows = data.rows.map((_, row) => row).filter((row) => curveOf(state.frame, row));
  if (!rows.length) return "There are no values to draw.";
  const { factor, name: unit } = shownUnit("rad/sample");
  const log = state.scale === "log";
  const limits = rows.map((row) => magnitudeLimits(row).range).filter((range) => range);
  const lines = rows.map((row) => {
    const [curve, name] = [thinned(curveOf(state.frame, row)), label(row)];
    const x = curve.theta.map((value) => value * factor);
    return {
      x,
      y: log ? curve.median.map((value) => (value > 0 ? value : null)) : curve.median,
      mode: "lines",
      name,
      line: { color: depthColor(row), width: 1.4 },
      hoverinfo: "text",
      hovertext: x.map((value, place) => `${name}<br>at ${shown(value)} ${unit}<br>|H| = ${shown(curve.median[place])}`),
    };
  });
  const traces = grouped(lines, Math.ceil(lines.length / MOST_FULL_CURVES));
  return {
    traces,
    label: "median |H| of all layers over the frequency",
    layout: {
      showlegend: rows.length > 1 && rows.length <= 12,
      shapes: [dashed("x", Math.PI * factor)],
      xaxis: { type: "log", title: frequencyTitle(), range: [Math.log10(theta[0] * factor), Math.log10(Math.PI * factor * 1.04)] },
      yaxis: {
        type: state.scale,
        title: "|H| [output/input]",
        range: limits.length ? [smallest(limits.map((range) => range[0])), largest(limits.map((range) => range[1]))] : undefined,
      },
    },
  };
}

// A statistic of every layer: its median and its range; of two checkpoints before and after.
function depthFigure(name, layout = {}) {
  if (!anyStatistic(name)) {
    const place = data.rows.map((_, row) => statisticOf(state.frame, row, name)).find((cell) => typeof cell === "number");
    return place === undefined ? "There are no values to draw." : `No layer has a value: ${data.texts[place]}`;
  }
  const frames = drawnFrames();
  const unit = shownUnit(definitions.get(name).unit).name;
  const traces = frames.map((frame, place) => {
    const style = styleOf(frame);
    const rows = data.rows.map((_, row) => row).filter((row) => hasValue(statisticOf(frame, row, name)));
    const cells = rows.map((row) => statisticOf(frame, row, name));
    return {
      x: cells.map(([median]) => median),
      y: rows.map((row) => row + (frames.length > 1 ? (place ? 0.14 : -0.14) : 0)),
      mode: "markers",
      name: style.name,
      marker: { size: 7, color: style.color, symbol: style.dash === "dot" ? "circle-open" : "circle" },
      error_x: {
        type: "data",
        symmetric: false,
        array: cells.map(([median, , p95]) => (p95 === undefined ? 0 : p95 - median)),
        arrayminus: cells.map(([median, p5]) => (p5 === undefined ? 0 : median - p5)),
        color: style.color,
        thickness: 1.2,
        width: 0,
      },
      hoverinfo: "text",
      hovertext: cells.map((cell, at) => `${label(rows[at])}${style.name ? `, ${style.name}` : ""}<br>${cellText(name, cell, unit)}`),
    };
  });
  return {
    traces,
    label: `${name} of every layer; the table has the numbers`,
    layout: { ...layout, ...depthLayout(), showlegend: frames.length > 1, xaxis: { title: unit ? `${name} [${unit}]` : name, ...layout.xaxis } },
  };
}

function cellText(name, [median, p5, p95], unit) {
  const range = p5 === undefined ? "" : ` (${shown(p5)}..${shown(p95)})`;
  return `${name} = ${shown(median)}${range}${unit ? ` ${unit}` : ""}`;
}

function biasFigure() {
  return depthFigure("bias_slope", { shapes: [dashed("x", 0)] });
}

function centerFigure() {
  const { factor } = shownUnit("rad/sample");
  const range = [Math.log10(theta[0] * factor * 0.95), Math.log10(Math.PI * factor * 1.1)];
  return depthFigure("center_frequency", { shapes: [dashed("x", Math.PI * factor)], xaxis: { type: "log", range } });
}

// Hankel singular values of all layers.
function hankelsFigure() {
  const rows = data.rows.map((_, row) => row).filter((row) => layerAt(state.frame, row)?.hankel);
  if (!rows.length) return hankelFigure(0);
  const traces = rows.map((row) => {
    const { count, median } = layerAt(state.frame, row).hankel;
    const [x, y] = [data.modes[count], unpacked(median)];
    return {
      x,
      y: y.map(aboveFloor),
      mode: x.length > 1 ? "lines" : "markers",
      name: label(row),
      line: { color: depthColor(row), width: 1.4 },
      marker: { color: depthColor(row), size: 5 },
      hoverinfo: "text",
      hovertext: x.map((mode, place) => `${label(row)}<br>value ${mode} of ${count}<br>${shown(y[place])} of the largest`),
    };
  });
  const lowest = smallest(rows.map((row) => hankelRange(row)[0]));
  return {
    traces,
    label: "Hankel singular values of all layers, divided by the largest of each copy",
    layout: {
      shapes: [dashed("y", 0.01)],
      showlegend: rows.length > 1 && rows.length <= 12,
      xaxis: { title: "number", rangemode: "tozero" },
      yaxis: { type: "log", title: "value / largest", range: [lowest, 0.3] },
    },
  };
}

// Half-lives of the copies of every layer, against the context of the model.
function memoryFigure() {
  const rows = data.rows.map((_, row) => row).filter((row) => layerAt(state.frame, row)?.lives);
  if (!rows.length) return depthFigure("half_life");
  const { factor, name: unit } = shownUnit("samples");
  const copies = rows.flatMap((row) => layerAt(state.frame, row).lives.values.map((life) => [life * factor, row]));
  const medians = rows.map((row) => [statisticOf(state.frame, row, "half_life")[0], row]);
  const traces = [
    { ...bars(copies, 0.3, ([life, row]) => `${label(row)}<br>a copy: ${shown(life)} ${unit}`), line: { color: faded(color("line"), 0.45), width: 1.6 } },
    { ...bars(medians, 0.45, ([, row]) => `${label(row)}<br>${cellText("half_life", statisticOf(state.frame, row, "half_life"), unit)}`), line: { color: color("mark"), width: 2.5 } },
  ];
  const { context } = data.checkpoints[state.frame];
  return {
    traces,
    label: "half-lives of the copies of every layer; the table has their median and range",
    layout: {
      shapes: context === null ? [] : [dashed("x", context * factor)],
      xaxis: { type: "log", title: `half-life of the slowest pole of a copy [${unit}]` },
      ...depthLayout(),
    },
  };
}

// Short upright lines at [x, row], all in one path, since a thousand marks of their own take long.
function bars(places, half, text) {
  return {
    x: places.flatMap(([x]) => [x, x, null]),
    y: places.flatMap(([, row]) => [row - half, row + half, null]),
    mode: "lines",
    hoverinfo: "text",
    hovertext: places.map(text).flatMap((line) => [line, line, ""]),
  };
}

// A statistic of every layer over the steps of a run, or its change since the first.
function stepsFigure(name, change) {
  const { steps, labels, medians, trainingChange } = data.history;
  const { factor, name: unit } = shownUnit(definitions.get(name).unit);
  const x = steps ?? labels.map((_, place) => place);
  const traces = medians[name].map((values, row) => {
    const start = values.find((value) => value !== null) ?? 0;
    const y = values.map((value) => (value === null ? null : (change ? value - start : value) * factor));
    return {
      x,
      y,
      mode: "lines+markers",
      name: label(row),
      line: { color: depthColor(row), width: 1.4 },
      marker: { size: 5 },
      hoverinfo: "text",
      hovertext: y.map((value, place) => `${label(row)}<br>${plain(short(labels[place]))}<br>${value === null ? "none" : `${shown(value)} ${unit}`}`),
    };
  });
  const band = { type: "rect", xref: "paper", x0: 0, x1: 1, y0: -trainingChange, y1: trainingChange, layer: "below", line: { width: 0 } };
  return {
    traces,
    label: `${change ? "change of " : ""}${name} of every layer over the checkpoints of the run`,
    layout: {
      shapes: change ? [{ ...band, fillcolor: faded(color("before"), 0.15) }] : [],
      xaxis: { title: steps ? "step" : "checkpoint (place in the run)" },
      yaxis: { title: `${change ? "change of " : ""}${name} [${unit}]` },
    },
  };
}
