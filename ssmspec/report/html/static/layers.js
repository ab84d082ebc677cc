// Layers as figures and tables need them.

const theta = unpacked(data.grid.theta);
const bins = data.grid.bins;
const curves = new Map();

function layerAt(frame, row) {
  return data.layers[frame][row];
}

// The checkpoints that are drawn together: one, or before and after.
function drawnFrames() {
  return data.kind === "pair" ? [0, 1] : [state.frame];
}

function hasValue(cell) {
  return Array.isArray(cell);
}

// |H| of a layer: the angles at which it is stored, its median and its band; null where it has none.
function curveOf(frame, row) {
  const key = `${frame} ${row}`;
  if (!curves.has(key)) {
    const stored = layerAt(frame, row)?.curve;
    curves.set(key, stored ? unfolded(stored) : null);
  }
  return curves.get(key);
}

function unfolded(stored) {
  return {
    theta: unpackedPlaces(stored.places).map((place, bin) => theta[bins[bin] + place]),
    median: unpacked(stored.median),
    p5: unpacked(stored.p5),
    p95: unpacked(stored.p95),
  };
}

// What |H| of a layer is: of several inputs or outputs a norm.
function magnitudeName(row) {
  const { inputs, outputs } = data.rows[row];
  return inputs * outputs > 1 ? "‖H‖ (Frobenius norm)" : "|H|";
}

function label(row) {
  return `${data.rows[row].index}: ${plain(short(data.rows[row].name))}`;
}

const definitions = new Map([...data.statistics, ...data.distances].map((entry) => [entry.name, entry]));
const places = new Map(data.statistics.map((entry, place) => [entry.name, place]));

// A statistic of a layer in the unit that is shown: [median] or [median, p5, p95], or the place of the reason why there is none.
function statisticOf(frame, row, name) {
  const cell = layerAt(frame, row)?.statistics[places.get(name)];
  if (!hasValue(cell)) return cell ?? null;
  const { factor } = shownUnit(definitions.get(name).unit);
  return cell.map((value) => value * factor);
}

function anyStatistic(name) {
  return data.rows.some((_, row) => drawnFrames().some((frame) => hasValue(statisticOf(frame, row, name))));
}
