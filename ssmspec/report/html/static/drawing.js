// When figures are drawn: each when it is scrolled to, again when a setting changes, and no more than some at a time.

const MOST_DRAWN = 40;
const MARGIN = { l: 56, r: 16, t: 14, b: 44 };
const FONT_SIZE = 12;
const figures = new Map();
const drawn = new Set();
const visible = new Set();
const waiting = new Set();
const watcher = new IntersectionObserver(scrolled, { rootMargin: "150px 0px" });

// Add a figure below a parent. `build` gives traces and layout, or a text where there is nothing to draw.
function addFigure(parent, { name, caption, height, build }) {
  const figure = document.createElement("figure");
  const plot = document.createElement("div");
  const text = document.createElement("figcaption");
  plot.className = "plot";
  plot.dataset.figure = name;
  if (height) plot.style.height = `${height}px`;
  figure.append(text, plot);
  parent.append(figure);
  figures.set(plot, { text, caption, build });
  tellCaption(plot);
  watcher.observe(plot);
  return figure;
}

function tellCaption(plot) {
  const { text, caption } = figures.get(plot);
  text.textContent = typeof caption === "function" ? caption() : caption;
}

function scrolled(entries) {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) {
      visible.add(target);
      if (!drawn.has(target)) soon(target);
    } else {
      visible.delete(target);
      waiting.delete(target);
    }
  }
}

// One figure after the other, each shown as soon as it is drawn.
function soon(plot) {
  if (!waiting.size) setTimeout(drawNext);
  waiting.add(plot);
}

function drawNext() {
  const [plot] = waiting;
  if (plot === undefined) return;
  waiting.delete(plot);
  draw(plot);
  if (waiting.size) setTimeout(drawNext);
}

function draw(plot) {
  const started = performance.now();
  const { build } = figures.get(plot);
  const found = build();
  tellCaption(plot);
  Plotly.purge(plot);
  plot.replaceChildren();
  plot.classList.toggle("empty", typeof found === "string");
  if (typeof found === "string") {
    const text = document.createElement("p");
    text.className = "missing";
    text.textContent = found;
    plot.append(text);
  } else {
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", found.label);
    Plotly.newPlot(plot, found.traces, dressed(found.layout), {
      displaylogo: false,
      responsive: true,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    });
  }
  drawn.delete(plot);
  drawn.add(plot);
  plot.dataset.milliseconds = (performance.now() - started).toFixed(1);
  forgetOldest();
}

// Figures that were drawn first and are out of sight are emptied, so that a page with hundreds of them stays small.
function forgetOldest() {
  for (const plot of [...drawn]) {
    if (drawn.size <= MOST_DRAWN) return;
    if (!visible.has(plot)) {
      Plotly.purge(plot);
      drawn.delete(plot);
    }
  }
}

// Draw what is in sight again; the rest when it is scrolled to.
function redraw() {
  for (const plot of [...drawn]) {
    if (!visible.has(plot)) drawn.delete(plot);
  }
  for (const plot of visible) soon(plot);
  for (const plot of figures.keys()) tellCaption(plot);
}

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// A color with an opacity; colors of the page are written #rrggbb.
function faded(hex, opacity) {
  const parts = [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
  return `rgba(${parts.join(",")},${opacity})`;
}

function dressed(layout) {
  const axis = (own) => ({
    gridcolor: color("grid"),
    linecolor: color("edge"),
    zerolinecolor: color("edge"),
    zeroline: false,
    exponentformat: "power",
    minexponent: 4,
    ticklabeloverflow: "allow",
    ...own,
    title: { text: own?.title ?? "", standoff: 8, font: { size: 12 } },
  });
  return {
    margin: MARGIN,
    paper_bgcolor: color("back"),
    plot_bgcolor: color("back"),
    font: { family: getComputedStyle(document.body).fontFamily, size: FONT_SIZE, color: color("text") },
    hoverlabel: { bgcolor: color("panel"), bordercolor: color("edge"), font: { color: color("text"), size: 12 }, align: "left", namelength: -1 },
    hovermode: "closest",
    showlegend: false,
    dragmode: "zoom",
    ...layout,
    xaxis: axis(layout.xaxis),
    yaxis: axis(layout.yaxis),
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)", ...layout.legend },
  };
}

function dashed(axis, at) {
  const other = axis === "x" ? { y0: 0, y1: 1, yref: "paper", x0: at, x1: at } : { x0: 0, x1: 1, xref: "paper", y0: at, y1: at };
  return { type: "line", layer: "below", line: { color: color("mark"), width: 1, dash: "dash" }, ...other };
}
