"""What all pictures share: colors, sizes, the frequency axis, and writing a figure to a file."""

import io
import logging
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.ticker import FuncFormatter, NullLocator

from ssmspec.errors import SsmspecError, printable
from ssmspec.files.writing import Kind, whole_file
from ssmspec.statistics import Curve, Spectrum
from ssmspec.systems.grid import FloatArray

COLOR_MAP = "cividis"  # safe for color-blind readers, and monotone in lightness, so it survives gray printing
LINE, BAND, MARK, NYQUIST = "#00204d", "#9fb2d0", "#b3502f", "0.45"
TITLE, LABEL, SMALL = 10, 9, 8  # points
DPI = 150
MOST_DECADES = 4  # of a logarithmic axis with minor ticks
MOST_NAME = 100  # at most this many bytes of a layer's or a checkpoint's name go into the file name of a picture
# text stays text in vector files, and the bytes are the same every time
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ssmspec",
    "pdf.fonttype": 42,
    "savefig.dpi": DPI,
    "figure.titlesize": TITLE,
    "axes.titlesize": LABEL,
    "axes.labelsize": LABEL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "grid.color": "0.9",
    "mathtext.fontset": "dejavusans",
}
NO_STYLE = ("backend", "backend_fallback")  # settings that choose a window system, which no picture in a file needs
FORMATS: dict[str, dict[str, Any]] = {  # suffix -> arguments of savefig. PNG: half the time of the usual level for a tenth more bytes
    ".png": {"pil_kwargs": {"compress_level": 3}},
    ".svg": {"metadata": {"Date": None}},
    ".pdf": {"metadata": {"CreationDate": None}},
}

THETA, OMEGA = r"$\theta$", r"$\omega$"

Layers = Collection[Any]  # LayerSpectrum or KernelSpectrum
AxisKind = Literal["theta", "cycles", "hertz", "omega"]


@dataclass(frozen=True, slots=True)
class FrequencyAxis:
    """The unit in which frequencies are drawn.

    Args:
        kind: theta [rad/sample], cycles per sample, hertz, or omega [rad/model time] of the continuous system.
        sample_rate: samples per second, for hertz.
    """

    kind: AxisKind = "theta"
    sample_rate: float | None = None

    @classmethod
    def at_rate(cls, sample_rate: float | None) -> "FrequencyAxis":
        """Hertz if a sample rate is given, else theta."""
        return cls() if sample_rate is None else cls("hertz", sample_rate)

    @property
    def unit(self) -> str:
        return {"theta": "rad/sample", "cycles": "cycles/sample", "hertz": "Hz", "omega": "rad/model time"}[self.kind]

    @property
    def label(self) -> str:
        return f"{ {'theta': THETA, 'omega': OMEGA}.get(self.kind, 'frequency') } [{self.unit}]"

    def values(self, frequencies: FloatArray) -> FloatArray:
        """Theta in the unit of this axis. Omega stays unchanged."""
        if self.kind in ("theta", "omega"):
            return frequencies
        return frequencies * (self.sample_rate or 1.0) / (2 * np.pi)

    def value(self, frequency: float) -> float:
        return float(self.values(np.array([frequency]))[0])


class ShownFigure(Figure):
    """A figure that notebooks show, as they do those of pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        FigureCanvasAgg(self)
        with mpl.rc_context(STYLE):
            self.savefig(buffer, format="png", dpi=DPI)
        return buffer.getvalue()


@contextmanager
def styled(sheet: Path | None = None) -> Iterator[None]:
    """Apply the style of all pictures within the block, then a matplotlib style sheet, and ignore the user's matplotlibrc."""
    with ExitStack() as stack:
        with warnings.catch_warnings():  # of settings that matplotlib will not have for much longer
            warnings.simplefilter("ignore")
            # not `mpl.style.context`, which reads all style sheets of matplotlib when it is imported
            usual = {key: mpl.rcParamsDefault[key] for key in mpl.rcParamsDefault if key not in NO_STYLE}
            chosen = {} if sheet is None else {key: value for key, value in _sheet(sheet).items() if key not in NO_STYLE}
            stack.enter_context(mpl.rc_context({**usual, **STYLE, **chosen}))
        yield


def _sheet(path: Path) -> dict[Any, Any]:
    """The settings of a matplotlib style sheet.

    Raises:
        SsmspecError: it cannot be read, or has a line that matplotlib does not accept.
    """
    complaints: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: complaints.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("matplotlib")
    level = log.level
    log.addHandler(listener)
    log.setLevel(logging.WARNING)
    try:
        settings = mpl.rc_params_from_file(path, use_default_template=False)
    except (OSError, UnicodeDecodeError) as error:
        raise SsmspecError(f"cannot read the style {path}: {getattr(error, 'strerror', None) or error}; give a .mplstyle file") from error
    finally:
        log.setLevel(level)
        log.removeHandler(listener)
    if complaints:
        reason = complaints[0].strip().split("\n")[0]
        raise SsmspecError(f"{path} is not a matplotlib style sheet: {reason}")
    return dict(settings)


def save(figure: Figure, path: Path, dpi: float | None = None) -> Path:
    """Write a figure, completely or not at all, in the format of its suffix. It has no dates, so the same picture gives the same file.

    Args:
        dpi: pixels per inch, of PNG; by default those of the style in force.
    Raises:
        SsmspecError: the suffix is not a known format, or the file cannot be written.
    """
    kind = checked_format(path)
    FigureCanvasAgg(figure)
    if dpi is None:
        dpi = figure.dpi if mpl.rcParams["savefig.dpi"] == "figure" else mpl.rcParams["savefig.dpi"]
    with whole_file(path, Kind.picture) as file:
        _lay_out(figure, dpi)
        figure.savefig(file, format=kind[1:], dpi=dpi, **FORMATS[kind])
    return path


def _lay_out(figure: Figure, dpi: float) -> None:
    """Place the axes once. Left to itself, `savefig` draws everything for that and throws it away.

    A wide logarithmic axis loses its minor ticks first: they lie too close to be read, and measuring them takes half the time of a picture.
    """
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = np.sort(axis.get_view_interval())
            if axis.get_scale() == "log" and high > low * 10**MOST_DECADES:
                axis.set_minor_locator(NullLocator())
    figure.set_dpi(dpi)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        with mpl.rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
            figure.set_layout_engine(None)  # the word "none" would leave an engine without effect, for which `savefig` draws twice


def checked_format(path: Path) -> str:
    """The suffix of a picture, in lower case.

    Raises:
        SsmspecError: the suffix is not in `FORMATS`.
    """
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise SsmspecError(f"{path} has no supported picture format; end its name in one of {', '.join(FORMATS)}")
    return kind


def list_height(rows: int) -> float:
    """Height in inches of a figure that lists layers down its side."""
    return max(2.6, 1.7 + 0.22 * rows)


def safe_name(name: str) -> str:
    """The name of a layer in a form that fits a file name. A long name becomes its start and a hash."""
    safe = "".join(character if character.isalnum() or character in "._-" else "-" for character in name)
    if len(safe.encode()) <= MOST_NAME:
        return safe
    return f"{safe.encode()[:MOST_NAME].decode(errors='ignore')}-{_hash(name)}"


def safe_names(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Parts of file names that differ from each other and from those in `taken`, ignoring case."""
    used = {name.casefold() for name in taken}
    safe = []
    for name in names:
        part = safe_name(name)
        if part.casefold() in used:
            part = f"{part}-{_hash(name)}"
        used.add(part.casefold())
        safe.append(part)
    return safe


def _hash(name: str) -> str:
    return sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]


def literal(name: str) -> str:
    r"""A name from a file or a path as matplotlib draws it character by character: no mathtext, and escapes for what is not printable.

    An escaped dollar sign is no mathtext, wherever it stands. Source: matplotlib.cbook.is_math_text.
    """
    return printable(name).replace("$", r"\$")


def short_name(name: str, most: int = 40) -> str:
    """The name, or the end of a long name, which is the part that distinguishes layers; as `literal`."""
    return literal(name if len(name) <= most else "..." + name[-most + 3 :])


def log_scale(axes: Axes) -> None:
    """Make the vertical axis logarithmic. Within one decade, its ticks are plain numbers."""
    axes.set_yscale("log")
    plain_ticks(axes.yaxis)


def plain_ticks(axis: Axis) -> None:
    """Make the ticks of a logarithmic axis within one decade plain numbers."""
    low, high = axis.get_view_interval()
    if high < 10 * low:
        for which in (axis.set_major_formatter, axis.set_minor_formatter):
            which(FuncFormatter(lambda value, _: f"{value:g}"))


def layer_title(layer: Spectrum) -> str:
    """Name, family and size of a layer."""
    system = layer.system
    channels = "" if system.inputs * system.outputs == 1 else f", {system.inputs} in, {system.outputs} out"
    return f"{short_name(system.name)} ({system.family}, {system.shape_text}{channels})"


def name_rows(axes: Axes, names: list[str]) -> None:
    """Name the layers down the side, the first at the top; row i extends from i to i + 1."""
    every = max(1, len(names) // 64)
    axes.set_ylim(len(names), 0)
    axes.set_yticks(np.arange(0, len(names), every) + 0.5, [short_name(name) for name in names[::every]], fontsize=SMALL)


def check_mathtext(text: str) -> None:
    """Raises:
    SsmspecError: the text has unescaped dollar signs, and what is between them is no mathtext.
    """
    try:
        MathTextParser("path").parse(text)
    except ValueError as error:
        raise SsmspecError(f"{text!r} is no mathtext ({str(error).splitlines()[-1].strip()}); write a plain dollar sign as \\$") from error


def light_grid(axes: Axes, which: Literal["major", "minor", "both"] = "major") -> None:
    """Draw grid lines behind the data."""
    axes.grid(visible=True, which=which)
    axes.set_axisbelow(True)


def draw_curve(axes: Axes, x: FloatArray, curve: Curve, name: str) -> None:
    """Draw a median on its 5..95 % band, the curves of a few copies, or the one curve of a single system, labeled with `name`."""
    if curve.copies is not None:
        shades = mpl.colormaps[COLOR_MAP](np.linspace(0, 0.75, len(curve.copies)))
        for place, (values, shade) in enumerate(zip(curve.copies, shades, strict=True)):
            axes.plot(x, values, color=shade, linewidth=1, label=None if place else f"each of {len(curve.copies)} copies")
        return
    if curve.p5 is not None and curve.p95 is not None:
        axes.fill_between(x, curve.p5, curve.p95, color=BAND, linewidth=0, label="5..95 % of copies")
        name = "median"
    axes.plot(x, curve.median, color=LINE, label=name)


def frequency_scale(axes: Axes) -> None:
    """Make the horizontal axis logarithmic, with its ends close to those of the data."""
    axes.set_xscale("log")
    axes.margins(x=0.02)


def draw_nyquist(axes: Axes, at: float) -> None:
    """Draw a dashed line at the Nyquist frequency, the highest frequency that samples can represent."""
    axes.axvline(at, color=NYQUIST, linestyle="--", linewidth=1, label="Nyquist")
