// The figures of one layer.

const DEPTH = 1e-5; // of the maximum, down to which a logarithmic |H| axis goes
const LOWEST_HANKEL = 1e-12; // of the largest Hankel singular value

function framesOf(row) {
  return drawnFrames().filter((frame) => layerAt(frame, row));
}

function styleOf(frame) {
  const first = data.kind === "pair" && frame === 0;
  return { color: color(first ? "before" : "line"), dash: first ? "dot" : "solid", name: first ? "before" : data.kind === "pair" ? "after" : "" };
}

function withoutNumbers(row) {
  const problem = framesOf(row).map((frame) => layerAt(frame, row).problem).find((place) => place !== null);
  return problem === undefined ? "There are no values to draw." : `Nothing to draw: ${data.texts[problem]}`;
}

// |H| with its band; of two checkpoints before and after.
function responseFigure(row) {
  const found = framesOf(row).filter((frame) => curveOf(frame, row));
  if (!found.length) return withoutNumbers(row);
  const { factor, name: unit } = shownUnit("rad/sample");
  const limits = magnitudeLimits(row);
  const traces = found.flatMap((frame) => curveTraces(curveOf(frame, row), frame, factor, unit, limits, row));
  return {
    traces,
    label: `${magnitudeName(row)} of ${data.rows[row].name} over the frequency; the table has its statistics`,
    layout: {
      showlegend: data.kind === "pair",
      shapes: [dashed("x", Math.PI * factor)],
      xaxis: { type: "log", title: frequencyTitle(), range: [Math.log10(theta[0] * factor), Math.log10(Math.PI * factor * 1.04)] },
      yaxis: { type: state.scale, title: `${magnitudeName(row)} [output/input]`, range: limits.range },
    },
  };
}

function curveTraces(curve, frame, factor, unit, limits, row) {
  const style = styleOf(frame);
  const x = curve.theta.map((value) => value * factor);
  const floor = (value) => Math.max(value, limits.floor);
  const traces = [];
  if (curve.p5) {
    traces.push(bandTrace(x, curve.p5.map(floor), curve.p95.map(floor), style.color));
  }
  traces.push({
    x,
    y: curve.median.map(floor),
    name: style.name,
    mode: "lines",
    line: { color: style.color, width: 1.8, dash: style.dash },
    hoverinfo: "text",
    hovertext: x.map((value, place) => curveText(curve, place, value, unit, style.name, row)),
  });
  return traces;
}

// The area between two curves, drawn as one shape.
function bandTrace(x, low, high, color) {
  return {
    x: [...x, ...x.slice().reverse()],
    y: [...high, ...low.slice().reverse()],
    fill: "toself",
    fillcolor: faded(color, 0.18),
    line: { width: 0 },
    mode: "lines",
    hoverinfo: "skip",
    showlegend: false,
  };
}

function curveText(curve, place, value, unit, name, row) {
  const range = curve.p5 ? `<br>5..95 %: ${shown(curve.p5[place])}..${shown(curve.p95[place])}` : "";
  const head = name ? `${name}<br>` : "";
  return `${head}at ${shown(value)} ${unit}<br>${magnitudeName(row)} = ${shown(curve.median[place])}${range}`;
}

// The same limits for all checkpoints, so that a slider moves the curve and not the axis.
function magnitudeLimits(row) {
  let [low, high] = [Infinity, 0];
  for (let frame = 0; frame < data.layers.length; frame++) {
    const curve = curveOf(frame, row);
    for (const values of curve ? [curve.median, curve.p5, curve.p95] : []) {
      for (const value of values ?? []) {
        if (value > 0) [low, high] = [Math.min(low, value), Math.max(high, value)];
      }
    }
  }
  if (!high) return { floor: -Infinity, range: undefined };
  low = Math.max(low, high * DEPTH);
  const range = state.scale === "log" ? [Math.log10(low) - 0.1, Math.log10(high) + 0.1] : [0, high * 1.05];
  return { floor: state.scale === "log" ? low / 10 : -Infinity, range };
}

// Poles in one of the planes; decay rates or half-lives as a histogram where all are real.
function polesFigure(row) {
  const found = framesOf(row).filter((frame) => layerAt(frame, row).poles);
  if (!found.length) {
    return data.rows[row].length === null ? withoutNumbers(row) : `An explicit kernel of ${data.rows[row].length} samples has no poles.`;
  }
  const real = found.every((frame) => layerAt(frame, row).poles.lives);
  const plane = layerAt(found[0], row).poles.continuous ? state.plane : "z";
  return real ? ratesFigure(row, found, plane) : planeFigure(row, found, plane);
}

function polesCaption(row) {
  const found = framesOf(row).map((frame) => layerAt(frame, row).poles).filter((poles) => poles);
  if (!found.length) return "Poles";
  const { count, shown: few, lives, continuous, endless } = found[found.length - 1];
  if (lives) {
    const skipped = endless ? `; ${endless} without one (|z| = 0 or |z| ≥ 1)` : "";
    return state.plane === "s" && continuous ? `Decay rates of ${count} poles, all real` : `Half-lives of ${count} poles, all real${skipped}`;
  }
  const only = continuous || state.plane === "z" ? "" : "; stored in the z-plane only";
  return few < count ? `Poles, upper half: ${few} of ${count}${only}` : `Poles, upper half: all ${count}${only}`;
}

function planeFigure(row, found, plane) {
  const { factor, name: unit } = shownUnit("rad/sample");
  const traces = found.map((frame) => {
    const style = styleOf(frame);
    const [x, y] = layerAt(frame, row).poles[plane].map(unpacked);
    return {
      x,
      y,
      type: "scatter",
      mode: "markers",
      name: style.name,
      marker: { size: 5, color: style.color, opacity: x.length > 150 ? 0.55 : 0.9, symbol: style.dash === "dot" ? "circle-open" : "circle" },
      hoverinfo: "text",
      hovertext: x.map((re, place) => (plane === "z" ? pointText(re, y[place], factor, unit) : `a = ${shown(re)} + ${shown(y[place])} i`)),
    };
  });
  const circle = { type: "circle", layer: "below", x0: -1, x1: 1, y0: -1, y1: 1, line: { color: color("mark"), width: 1, dash: "dash" } };
  const z = plane === "z";
  const most = z ? 1.05 * largest([1, ...traces.flatMap(({ x, y }) => x.map((re, place) => Math.hypot(re, y[place])))]) : 0;
  return {
    traces,
    label: `poles of ${data.rows[row].name} in the ${plane}-plane, upper half`,
    layout: {
      showlegend: data.kind === "pair",
      shapes: [z ? circle : dashed("x", 0)],
      xaxis: z ? { title: "Re z", range: [-most, most], constrain: "domain" } : { title: "Re a [1/model time]" },
      yaxis: z ? { title: "Im z", range: [-0.04 * most, most], scaleanchor: "x", constrain: "domain" } : { title: "Im a [rad/model time]" },
    },
  };
}

function pointText(re, im, factor, unit) {
  const angle = Math.atan2(im, re) * factor;
  return `|z| = ${Math.hypot(re, im).toFixed(6)}<br>angle ${shown(angle)} ${unit}`;
}

function ratesFigure(row, found, plane) {
  const kind = plane === "s" ? "rates" : "lives";
  const { factor, name: unit } = kind === "lives" ? shownUnit("samples") : { factor: 1, name: "1/model time" };
  const bars = found.map((frame) => layerAt(frame, row).poles[kind]);
  const traces = found.map((frame, place) => {
    const style = styleOf(frame);
    const { edges, counts } = bars[place];
    return {
      x: edges.map((edge) => edge * factor),
      y: [...counts, counts[counts.length - 1]],
      name: style.name,
      mode: "lines",
      line: { shape: "hv", color: style.color, width: 1.2, dash: style.dash },
      fill: "tozeroy",
      fillcolor: faded(style.color, 0.3),
      hoverinfo: "text",
      hovertext: [...counts.map((count, bin) => `${shown(edges[bin] * factor)}..${shown(edges[bin + 1] * factor)} ${unit}<br>${count} poles`), ""],
    };
  });
  return {
    traces,
    label: `histogram of the ${plane === "s" ? "decay rates" : "half-lives"} of the poles of ${data.rows[row].name}`,
    layout: {
      showlegend: data.kind === "pair",
      xaxis: { type: bars.every(({ log }) => log) ? "log" : "linear", title: `${plane === "s" ? "-Re a" : "half-life of a pole"} [${unit}]` },
      yaxis: { title: "poles", rangemode: "tozero" },
    },
  };
}

// Hankel singular values of a layer over their number, with their band.
function hankelFigure(row) {
  const found = framesOf(row).filter((frame) => layerAt(frame, row).hankel);
  if (!found.length) {
    const reason = framesOf(row).map((frame) => layerAt(frame, row).hankelMissing).find((place) => place !== null);
    return reason === undefined ? "There are no values to draw." : `No Hankel singular values: ${data.texts[reason]}`;
  }
  const floor = (value) => Math.max(value, LOWEST_HANKEL);
  const traces = found.flatMap((frame) => {
    const style = styleOf(frame);
    const { count, ...stored } = layerAt(frame, row).hankel;
    const [x, median, p5, p95] = [data.modes[count], unpacked(stored.median), unpacked(stored.p5), unpacked(stored.p95)];
    const band = p5 && bandTrace(x, p5.map(floor), p95.map(floor), style.color);
    const line = {
      x,
      y: median.map(aboveFloor),
      name: style.name,
      mode: "lines+markers",
      line: { color: style.color, width: 1.2, dash: style.dash },
      marker: { size: 5, color: style.color },
      hoverinfo: "text",
      hovertext: x.map((mode, place) => `value ${mode} of ${count}<br>${shown(median[place])} of the largest`),
    };
    return band ? [band, line] : [line];
  });
  return {
    traces,
    label: `Hankel singular values of ${data.rows[row].name}, divided by the largest`,
    layout: {
      showlegend: data.kind === "pair",
      shapes: [dashed("y", 0.01)],
      xaxis: { title: "number", rangemode: "tozero" },
      yaxis: { type: "log", title: "value / largest", range: hankelRange(row) },
    },
  };
}

// Values below the floor are rounding and are not drawn.
function aboveFloor(value) {
  return value > LOWEST_HANKEL ? value : null;
}

function hankelRange(row) {
  let low = 1;
  for (let frame = 0; frame < data.layers.length; frame++) {
    const stored = layerAt(frame, row)?.hankel;
    for (const value of stored ? unpacked(stored.median) : []) low = Math.min(low, Math.max(value, LOWEST_HANKEL));
  }
  return [Math.log10(low) - 0.5, 0.3];
}
