"""The file of a report: one template, one static script, the script of plotly and the data, in a page that loads nothing.

A content security policy lets the two scripts run, by their hashes, and nothing else. Names from files are text in the data, which no
parser of HTML or JavaScript sees: `<`, `>` and `&` are \\u escapes there. What else holds text from files, the template escapes.
"""

import base64
import json
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from ssmspec.checkpoint.remote.path import title_of
from ssmspec.commands.report import Report
from ssmspec.errors import SsmspecError, needed, printable
from ssmspec.files.writing import MARK_OF_PAGE
from ssmspec.report.documents.document import Document
from ssmspec.report.html.data import report_data, rows_of, shown_steps
from ssmspec.report.html.summary import summary_of
from ssmspec.statistics import STATISTICS
from ssmspec.statistics.distances import DISTANCES
from ssmspec.version import __version__

SCRIPTS = ("numbers.js", "layers.js", "drawing.js", "figures.js", "overviews.js", "table.js", "cards.js", "start.js")  # in this order
HEAD_OF_PLOTLY = 1000  # characters before its one function


@dataclass(frozen=True, slots=True)
class Libraries:
    """What the extra `report` installs.

    Args:
        jinja2: the module. plotly_js: the script of plotly.
    """

    jinja2: Any
    plotly_js: str


def load_libraries() -> Libraries:
    """What a page is made with, which is not installed with ssmspec alone.

    Raises:
        MissingPackageError: one of them is not there.
    """
    what, extra = "a report", "report"
    return Libraries(needed("jinja2", what, extra), needed("plotly.offline", what, extra).get_plotlyjs())


def report_page(report: Report, libraries: Libraries, *, sample_rate: float | None = None) -> bytes:
    """A report as one HTML file in UTF-8.

    Args:
        sample_rate: samples per second, to begin with Hz instead of rad/sample.
    """
    jinja2 = libraries.jinja2
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    scripts = [_script(_eager(libraries.plotly_js)), _script(own_script())]
    page = environment.from_string(_text("page.html.jinja")).render(
        mark=MARK_OF_PAGE,
        version=__version__,
        title=_title(report),
        policy=_policy(scripts),
        style=_text("static", "style.css"),
        scripts=scripts,
        data=embedded(report_data(report, sample_rate=sample_rate)),
        sections=summary_of(report, rows_of(report, shown_steps(report)), sample_rate=sample_rate),
        statistics=STATISTICS.values(),
        distances=DISTANCES.values() if report.comparison is not None else (),
        run=report.comparison is None and len(report.analyses) > 1,
    )
    return str(page).encode("utf-8", "backslashreplace")


def _eager(plotly_js: str) -> str:
    """The script of plotly with its one function in parentheses, which tells a browser to compile it at once instead of parsing it twice.

    It saves a quarter of the time to the first figure. A script of another form stays as it is.
    """
    head, begin, body = plotly_js.partition(', () => {\n"use strict";')
    main, end, rest = body.rpartition("}));")
    if not begin or not end or rest.strip() or len(head) > HEAD_OF_PLOTLY:
        return plotly_js
    return f'{head}, (() => {{\n"use strict";{main}}})));{rest}'


def own_script() -> str:
    """The static script: its parts in one scope."""
    return '(() => {\n"use strict";\n' + "\n".join(_text("static", name) for name in SCRIPTS) + "})();\n"


def embedded(document: Document) -> str:
    """JSON that can stand in a script element: ASCII, with \\u escapes for the characters that HTML knows."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _title(report: Report) -> str:
    names = [printable(title_of(analysis.path)) for analysis in report.analyses]
    if report.comparison is not None:
        return f"{names[0]} and {names[1]}"
    folder = printable(Path(report.last.path).parent.name)
    return names[0] if len(names) == 1 else f"{folder}{': ' if folder else ''}{names[0]} to {names[-1]}"


def _policy(scripts: list[str]) -> str:
    hashes = " ".join(f"'sha256-{base64.b64encode(sha256(script.encode()).digest()).decode('ascii')}'" for script in scripts)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"


def _script(text: str) -> str:
    """A script as a browser sees it between its tags, so that its hash agrees.

    Raises:
        SsmspecError: it would end its element.
    """
    normal = text.replace("\r\n", "\n").replace("\r", "\n")
    if "</script" in normal.lower() or "<!--" in normal:
        raise SsmspecError("the installed plotly.js has an end tag, so it cannot stand in a page; install another version of plotly")
    return normal


def _text(*parts: str) -> str:
    return files("ssmspec.report").joinpath("html", *parts).read_text(encoding="utf-8")
