// What happens when the page is opened, and when a setting changes.

function addOverviews() {
  const parent = document.getElementById("overviews");
  const grid = () => parent.appendChild(element("div", { class: "figures" }));
  const which = data.kind === "pair" ? " after" : "";
  if (data.history) {
    const row = grid();
    addFigure(row, { name: "steps bias_slope", caption: "bias_slope over the run, a line per layer, from the first (dark) to the last (bright)", build: () => stepsFigure("bias_slope", false) });
    const usual = `Its change since the first checkpoint; shaded: ±${data.history.trainingChange}, what training alone does`;
    addFigure(row, { name: "steps change", caption: usual, build: () => stepsFigure("bias_slope", true) });
    addFigure(row, { name: "steps center_frequency", caption: "center_frequency over the run", build: () => stepsFigure("center_frequency", false) });
  }
  const height = listHeight();
  const level = grid();
  addFigure(level, { name: "levels", caption: `Median |H|${which} over depth; the right edge is Nyquist`, height, build: levelFigure });
  if (data.kind === "pair") addFigure(level, { name: "change", caption: "Change of the median |H|; red: more than before", height, build: changeFigure });
  addFigure(grid(), { name: "medians", caption: mediansCaption, height: 380, build: mediansFigure });
  const bias = grid();
  addFigure(bias, { name: "bias", caption: "bias_slope; 0: no preference, < 0: low frequencies first", height, build: biasFigure });
  addFigure(bias, { name: "centers", caption: "center_frequency; dashed: Nyquist", height, build: centerFigure });
  const last = grid();
  addFigure(last, { name: "memory", caption: memoryCaption, height, build: memoryFigure });
  addFigure(last, { name: "hankels", caption: `Hankel singular values${which} of all layers; dashed: 1 % of the largest`, height: Math.max(300, Math.min(height, 420)), build: hankelsFigure });
}

function memoryCaption() {
  const { context } = data.checkpoints[state.frame];
  const known = context === null ? "the context length is not known" : `dashed: the context of ${context} tokens`;
  const most = largest(data.layers[state.frame].map((layer) => layer?.lives?.values.length ?? 0));
  return `Memory${data.kind === "pair" ? " after" : ""}: half-lives of copies, at most ${most} of a layer, and their median (longer); ${known}`;
}

function refresh() {
  fillTable();
  for (const details of document.querySelectorAll(".card details[open]")) {
    fillDetails(details, Number(details.closest(".card").id.slice("layer-".length)));
  }
  redraw();
}

function onChange(id, action) {
  const input = document.getElementById(id);
  input?.addEventListener("input", () => {
    action(input);
    refresh();
  });
}

function setUnit() {
  state.unit = document.getElementById("unit").value;
  state.rate = Number(document.getElementById("rate").value) || null;
  document.getElementById("rate-label").hidden = state.unit !== "hertz";
}

function startSettings() {
  document.getElementById("unit").value = state.unit;
  document.getElementById("rate").value = state.rate ?? "";
  setUnit();
  onChange("unit", setUnit);
  onChange("rate", setUnit);
  onChange("scale", ({ value }) => (state.scale = value));
  onChange("plane", ({ value }) => (state.plane = value));
  onChange("theme", ({ value }) => (document.documentElement.dataset.theme = value));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  document.getElementById("filter").addEventListener("input", filterTable);
  startSlider();
}

function startSlider() {
  const slider = document.getElementById("step");
  if (!slider) return;
  const tell = () => {
    const { label: name, step } = data.checkpoints[state.frame];
    const text = step === null ? name : name.includes(String(step)) ? `step ${step}` : `step ${step} (${name})`;
    document.getElementById("step-name").textContent = text;
    slider.setAttribute("aria-valuetext", text);
  };
  slider.max = data.checkpoints.length - 1;
  slider.value = state.frame;
  onChange("step", ({ value }) => {
    state.frame = Number(value);
    tell();
  });
  tell();
}

startSettings();
fillColumnList();
addOverviews();
data.rows.forEach((_, row) => addCard(row));
filterTable();
