"""Reports in a real browser: nothing fails or is fetched, figures show what the data says, names stay text, tables work by keyboard.

No test depends on how long something takes: each waits for what it looks at.
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decaying import CONTEXT, decaying, half_lives
from locations import SAMPLES
from program import ssmspec
from reports import HOSTILE, Page, deepened, explicit, hostile, page_of, report_of, run_folder, unreadable

from ssmspec.commands.report import report

pytest.importorskip("plotly", reason="the extra report is not installed")
pytest.importorskip("jinja2", reason="the extra report is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PATIENCE = 600_000.0  # milliseconds after which a page is held to hang

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS), timeout=PATIENCE)
        yield found
        found.close()


class Opened:
    """A report in the browser, with what the page complained about and what it asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.page = browser.new_page(viewport={"width": 1300, "height": 900}, **options)
        self.page.set_default_timeout(PATIENCE)
        self.troubles: list[str] = []
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", lambda request: self.troubles.append(request.url) if request.url.startswith(("http", "ws")) else None)
        self.data = Page(path.read_bytes()).data
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("#table caption", state="attached")

    def all(self, script: str) -> list[Any]:
        return self.page.evaluate(script)

    def until(self, condition: str) -> None:
        """Wait until something is true; the policy of the page forbids what playwright offers for it."""
        for _ in range(int(PATIENCE / 50)):
            if self.all(condition):
                return
            self.page.wait_for_timeout(50)
        raise TimeoutError(condition)

    def figures(self) -> list[str]:
        return self.all("[...document.querySelectorAll('.plot')].map((plot) => plot.dataset.figure)")

    def drawn(self) -> list[str]:
        return self.all("[...document.querySelectorAll('.plot[data-milliseconds]')].map((plot) => plot.dataset.figure)")

    def draw(self, name: str) -> Any:
        """Scroll to a figure and wait until it is drawn."""
        plot = self.page.locator(f'.plot[data-figure="{name}"]')
        plot.scroll_into_view_if_needed()
        self.page.wait_for_selector(f'.plot[data-figure="{name}"][data-milliseconds]', state="attached")
        self.page.wait_for_selector(f'.plot[data-figure="{name}"] :is(.main-svg, .missing)', state="attached")
        return plot

    def marks(self, name: str) -> dict[str, int]:
        """How many marks of each kind a figure has."""
        kinds = {
            "points": ".points path.point",
            "lines": ".scatterlayer path.js-line",
            "fills": ".scatterlayer path.js-fill",
            "bars": ".errorbars path",
            "images": ".heatmaplayer image",
        }
        plot = self.draw(name)
        counts = {kind: plot.locator(selector).count() for kind, selector in kinds.items()}
        return {kind: count for kind, count in counts.items() if count}

    def hover(self, name: str, place: int) -> str:
        """What is shown where the mouse is over a point of a figure."""
        plot = self.draw(name)
        box = plot.locator(".points path.point").nth(place).bounding_box()
        self.page.mouse.move(0, 0)
        self.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        label = plot.locator(".hoverlayer .hovertext")
        label.first.wait_for()
        return label.first.text_content()

    def column(self, place: int) -> list[str]:
        return self.all(f"[...document.querySelectorAll('#table tbody tr')].map((row) => row.children[{place}].textContent)")


@pytest.fixture(scope="module")
def opened(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Opens reports, each once."""
    folder, pages = tmp_path_factory.mktemp("reports"), dict[str, Opened]()
    makers = {
        "one": lambda: report_of("s4d_trained.safetensors"),
        "pair": lambda: report_of("s4d_initial.safetensors", "s4d_trained.safetensors"),
        "run": lambda: report([run_folder(folder / "run")]),
        "selective": lambda: report_of("mamba1_trained.safetensors"),
        "single": lambda: report_of("s5_trained.msgpack"),
        "explicit": lambda: explicit(folder),
        "hostile": lambda: report([hostile(folder)]),
        "decaying": lambda: report([decaying(folder)]),
        "deep": lambda: deepened(report_of("s4d_trained.safetensors"), 64),
    }

    def opening(name: str) -> Opened:
        if name not in pages:
            (folder / f"{name}.html").write_bytes(page_of(makers[name]()))
            pages[name] = Opened(browser, folder / f"{name}.html")
        return pages[name]

    yield opening
    for each in pages.values():
        each.page.close()


def shown(value: float) -> str:
    """Four significant digits, as the page shows numbers of a usual size."""
    return f"{value:.4g}"


KINDS = ("one", "pair", "run", "selective", "single", "explicit", "hostile")


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_has_its_marks_and_nothing_fails_or_is_fetched(opened: Any, kind: str) -> None:
    """Every mark stands for something in the data, and no figure has so many that a browser becomes slow."""
    found = opened(kind)
    counted = {name: found.marks(name) for name in found.figures()}
    assert found.troubles == []
    assert found.all("performance.getEntriesByType('resource').length") == 0
    assert {name for name, marks in counted.items() if sum(marks.values()) > 2000} == set()
    frames = found.data["layers"] if kind == "pair" else found.data["layers"][-1:]
    places = {entry["name"]: place for place, entry in enumerate(found.data["statistics"])}

    def with_value(name: str) -> list[Any]:
        return [cell for layers in frames for layer in layers if isinstance(cell := layer["statistics"][places[name]], list)]

    for name, statistic in (("bias", "bias_slope"), ("centers", "center_frequency")):
        cells = with_value(statistic)
        assert counted[name] == ({"points": len(cells), "bars": len(cells)} if cells else {})
    curves = [layer["curve"] for layer in frames[-1] if layer["curve"]]
    assert counted["levels"] == {"images": 1}
    assert counted["medians"] == {"lines": len(curves)}
    lives = [layer["lives"]["values"] for layer in frames[-1] if layer["lives"]]
    assert counted["memory"].get("lines", 0) == sum(map(len, lives)) + len(lives)
    for row in range(len(found.data["rows"])):
        layers = [layers[row] for layers in frames]
        curves = [layer["curve"] for layer in layers if layer["curve"]]
        bands = sum(curve["p5"] is not None for curve in curves)
        assert counted[f"response {row}"].get("lines", 0) == len(curves) + bands
        assert counted[f"response {row}"].get("fills", 0) == bands
        poles = [layer["poles"] for layer in layers if layer["poles"]]
        assert counted[f"poles {row}"].get("points", 0) == sum(each.get("shown", 0) for each in poles)
        assert counted[f"poles {row}"].get("fills", 0) == sum("lives" in each for each in poles)


def test_half_lives_stand_against_the_context_of_the_model(opened: Any) -> None:
    found = opened("decaying")
    plot = found.draw("memory")
    figure = "document.querySelector('.plot[data-figure=\"memory\"]')"
    assert [shape["x0"] for shape in found.all(f"{figure}.layout.shapes")] == [CONTEXT]
    drawn = sorted({place for place in found.all(f"{figure}.data[0].x") if place is not None})
    np.testing.assert_allclose(drawn, sorted(half_lives()), rtol=1e-5)
    assert f"the context of {CONTEXT} tokens" in plot.locator("xpath=..").text_content()
    assert found.troubles == []


def test_nothing_is_drawn_before_it_is_scrolled_to(browser: Any, opened: Any, tmp_path: Path) -> None:
    found = opened("deep")
    assert found.drawn() == []
    found.draw("response 20")
    drawn = found.drawn()
    assert "response 20" in drawn
    assert len(drawn) < 20
    assert found.troubles == []


def test_figures_out_of_sight_are_forgotten_and_drawn_again(opened: Any) -> None:
    found = opened("deep")
    found.draw("response 0")
    kept = "document.querySelector('[data-figure=\"response 0\"] .main-svg') !== null"
    rows = iter(range(3, 64, 2))
    while found.all(kept):
        found.draw(f"hankel {next(rows)}")
    assert found.marks("response 0") == {"lines": 2, "fills": 1}


# --- the table ---


def test_table_sorts_by_mouse_and_keyboard(opened: Any) -> None:
    found = opened("hostile")
    headings = found.all("[...document.querySelectorAll('#table thead button')].map((button) => button.dataset.column)")
    place = headings.index("center_frequency")
    numbers = {row["index"]: layer["statistics"][1][0] for row, layer in zip(found.data["rows"], found.data["layers"][0], strict=True)}
    order = [str(index) for index in sorted(numbers, key=numbers.__getitem__)]
    found.page.click("#table button[data-column=center_frequency]")
    assert found.column(0) == order
    assert found.all("document.activeElement.dataset.column") == "center_frequency"
    found.page.keyboard.press("Enter")
    assert found.column(0) == order[::-1]
    sorts = found.all("[...document.querySelectorAll('#table thead th')].map((cell) => cell.getAttribute('aria-sort'))")
    assert sorts == ["descending" if column == place else "none" for column in range(len(headings))]
    found.page.keyboard.press("Space")
    assert found.column(0) == order
    found.page.click("#table button[data-column=index]")
    assert found.column(0) == [str(row["index"]) for row in found.data["rows"]]


def test_table_filters_by_name_and_by_number_and_says_how_many(opened: Any) -> None:
    found = opened("hostile")
    found.page.fill("#filter", "BOLD")
    assert len(found.column(0)) == 1
    assert found.page.inner_text("#shown") == f"1 of {len(HOSTILE)} layers"
    assert found.all("document.querySelectorAll('.card:not([hidden])').length") == 1
    values = sorted(layer["statistics"][1][0] for layer in found.data["layers"][0])
    found.page.fill("#filter", f"center_frequency < {values[3]}")
    assert len(found.column(0)) == 3
    found.page.fill("#filter", "")
    assert len(found.column(0)) == len(HOSTILE)


def test_table_has_names_for_screen_readers(opened: Any) -> None:
    found = opened("one")
    table = found.page.locator("#table")
    assert table.locator("caption").count() == 1
    assert table.locator("thead th[scope=col]").count() == table.locator("thead th").count()
    assert table.locator("tbody th[scope=row]").count() == len(found.data["rows"])
    unnamed = """[...document.querySelectorAll('input, select, button, a, [role=region], section')].filter((each) => !(
        each.closest('.plot') || each.labels?.length || each.textContent.trim()
        || each.getAttribute('aria-label') || each.getAttribute('aria-labelledby'))).map((each) => each.outerHTML)"""
    assert found.all(unnamed) == []
    targets = found.all("[...document.querySelectorAll('a')].filter((a) => !a.closest('.plot')).map((a) => a.getAttribute('href'))")
    assert all(found.all(f"document.getElementById({json.dumps(target[1:])}) !== null") for target in targets)


def test_every_column_can_be_chosen_and_missing_values_have_their_reason(opened: Any) -> None:
    found = opened("single")
    found.page.click("#columns summary")
    for entry in found.data["statistics"]:
        found.page.check(f"#column-{entry['name']}")
    assert found.page.locator("#table thead th").count() == 4 + len(found.data["statistics"])
    assert all("none" in cell for cell in (found.column(place)[1] for place in range(4, 4 + len(found.data["statistics"]))))
    assert "do not decay" in found.page.inner_text("#reasons")
    first = found.data["layers"][0][0]["statistics"]
    assert found.column(4)[0] == shown(first[0][0])


def test_all_statistics_of_a_layer_are_the_numbers_of_json(opened: Any) -> None:
    found = opened("one")
    document = json.loads(ssmspec("analyze", SAMPLES / "s4d_trained.safetensors", "--json").out)
    found.page.locator("#layer-0 details summary").click()
    found.until("document.querySelector('#layer-0 details tbody tr') !== null")  # a browser tells that details were opened later
    lines = found.all(
        "[...document.querySelectorAll('#layer-0 details tbody tr')].map((row) => [...row.children].map((x) => x.textContent))"
    )
    assert len(lines) == len(document["layers"][0]["statistics"])
    for name, text, unit in lines:
        summary = document["layers"][0]["statistics"][name]
        assert unit == summary["unit"]
        numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", text)]
        wanted = [summary[key] for key in ("median", "p5", "p95")]
        assert numbers == [float(f"{value:.4g}") if abs(value) < 9999.5 else round(value) for value in wanted]


# --- figures ---


@pytest.mark.parametrize(("figure", "statistic"), [("bias", "bias_slope"), ("centers", "center_frequency")])
def test_hover_shows_the_number_of_json(opened: Any, figure: str, statistic: str) -> None:
    found = opened("one")
    document = json.loads(ssmspec("analyze", SAMPLES / "s4d_trained.safetensors", "--json").out)
    for place, layer in enumerate(document["layers"]):
        value = layer["statistics"][statistic]
        text = found.hover(figure, place)
        assert layer["name"] in text
        range_text = f"({shown(value['p5'])}..{shown(value['p95'])})"
        assert f"{statistic} = {shown(value['median'])} {range_text} {value['unit']}" in text


def test_hover_over_a_curve_shows_a_point_of_the_analysis(opened: Any) -> None:
    found = opened("single")
    plot = found.draw("response 0")
    box = plot.locator(".scatterlayer path.js-line").bounding_box()
    found.page.mouse.move(0, 0)
    found.page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 2)
    label = plot.locator(".hoverlayer .hovertext")
    label.first.wait_for()
    theta, magnitude = re.findall(r"(?:at|=) (\d[\d.e-]*)", label.first.text_content())
    layer = report_of("s5_trained.msgpack").last.layers[0]
    grid = np.geomspace(np.pi / 1024, np.pi, 1024)
    known = {(shown(a), shown(b)) for a, b in zip(grid, np.float32(layer.curve.median).astype(float), strict=True)}
    assert (theta, magnitude) in known


def test_units_apply_to_table_and_figures(opened: Any) -> None:
    found = opened("selective")
    path = SAMPLES / "mamba1_trained.safetensors"
    document = json.loads(ssmspec("analyze", path, "--json", "--sample-rate", 44100).out)
    found.page.select_option("#unit", "hertz")
    found.page.fill("#rate", "44100")
    values = [layer["statistics"]["center_frequency"] for layer in document["layers"]]
    assert found.column(5) == [f"{value['median']:.4g}{value['p5']:.4g}..{value['p95']:.4g}" for value in values]
    found.draw("response 0")
    found.until("document.querySelector('[data-figure=\"response 0\"]').textContent.includes('[Hz]')")
    assert "Hz" in found.page.inner_text("#table thead")
    found.page.select_option("#unit", "cycles")
    cycles = [layer["statistics"][1][0] / (2 * np.pi) for layer in found.data["layers"][0]]
    assert [text.startswith(shown(value)) for text, value in zip(found.column(5), cycles, strict=True)] == [True, True]
    found.page.select_option("#unit", "theta")
    assert found.page.locator("#rate-label").is_hidden()


def test_axes_and_planes_can_be_switched(opened: Any) -> None:
    found = opened("one")
    layout = "document.querySelector('[data-figure=\"{}\"]')._fullLayout"
    found.draw("response 0")
    found.draw("poles 0")
    for value in ("linear", "log"):
        found.page.select_option("#scale", value)
        found.until(f"{layout.format('response 0')}.yaxis.type === '{value}'")
    for value, title in (("s", "Re a [1/model time]"), ("z", "Re z")):
        found.page.select_option("#plane", value)
        found.until(f"{layout.format('poles 0')}.xaxis.title.text === '{title}'")
    assert found.troubles == []


def test_a_figure_can_be_zoomed(opened: Any) -> None:
    found = opened("one")
    plot = found.draw("response 1")
    box = plot.locator(".nsewdrag").bounding_box()
    at = [(box["x"] + box["width"] * part, box["y"] + box["height"] * part) for part in (0.3, 0.7)]
    before = found.all("document.querySelector('[data-figure=\"response 1\"]')._fullLayout.xaxis.range")
    found.page.mouse.move(*at[0])
    found.page.mouse.down()
    found.page.mouse.move(*at[1], steps=4)
    found.page.mouse.up()
    limits = "document.querySelector('[data-figure=\"response 1\"]')._fullLayout.xaxis.range"
    found.until(f"{limits}[0] > {before[0]}")
    after = found.all(limits)
    assert before[0] < after[0] < after[1] < before[1]


def test_slider_shows_every_step(opened: Any) -> None:
    found = opened("run")
    assert found.page.inner_text("#step-name") == "step 30"
    found.page.focus("#step")
    for frame in (2, 1, 0):
        found.page.keyboard.press("ArrowLeft")
        assert found.page.inner_text("#step-name") == f"step {frame * 10}"
        cells = [layer["statistics"][0] for layer in found.data["layers"][frame]]
        assert [text.startswith(shown(cell[0])) for text, cell in zip(found.column(4), cells, strict=True)] == [True, True]
    plot = found.draw("response 0")
    assert plot.locator(".scatterlayer path.js-line").count() == 2
    assert found.marks("steps bias_slope") == {"points": 8, "lines": 2}
    assert found.troubles == []


def test_two_checkpoints_show_both_and_the_verdict(opened: Any) -> None:
    found = opened("pair")
    assert found.data["comparison"]["verdict"] in found.page.inner_text("#summary")
    before, after = (layers[0]["statistics"][0][0] for layers in found.data["layers"])
    assert found.column(4)[0] == f"{shown(before)} → {shown(after)}{'+' if after > before else ''}{after - before:.3g}"
    assert found.draw("response 0").locator(".legendtext").all_text_contents() == ["before", "after"]
    assert found.draw("change").locator(".heatmaplayer image").count() == 1


# --- names ---


def test_hostile_names_stay_text_everywhere(opened: Any) -> None:
    found = opened("hostile")
    names = [row["name"] for row in found.data["rows"]]
    assert found.column(1) == names
    for figure in ("levels", "bias", "centers", "memory"):
        ticks = found.draw(figure).locator(".ytick text").all_text_contents()
        assert [tick.split(": ", 1)[1] for tick in ticks] == [brief(name, 36) for name in names]
    for figure in ("medians", "hankels"):
        legend = found.draw(figure).locator(".legendtext").all_text_contents()
        assert [text.split(": ", 1)[1] for text in legend] == [brief(name, 36) for name in names]
    for place, name in enumerate(names):
        assert brief(name, 36) in found.hover("bias", place)
    bold = "(plot) => [...plot.querySelectorAll('text, tspan')].filter((each) => Number(getComputedStyle(each).fontWeight) > 400).length"
    for figure in found.figures():
        plot = found.draw(figure)
        assert plot.locator("svg a, svg script, svg foreignObject").count() == 0
        assert plot.evaluate(bold) == 0
    assert found.page.locator("#summary :is(a, b, i, script), #table :is(b, i, script), .card h3 *").count() == 0
    assert found.troubles == []


def brief(name: str, most: int) -> str:
    """A long name as figures show it: its end."""
    return name if len(name) <= most else "..." + name[3 - most :]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colors_follow_the_system_and_the_choice(browser: Any, opened: Any, scheme: str, tmp_path: Path) -> None:
    (tmp_path / "x.html").write_bytes(page_of(report_of("waves_biased.safetensors")))
    found = Opened(browser, tmp_path / "x.html", color_scheme=scheme)
    back = "getComputedStyle(document.body).backgroundColor"
    dark, light = "rgb(20, 23, 27)", "rgb(255, 255, 255)"
    assert found.all(back) == (dark if scheme == "dark" else light)
    plot = found.draw("response 0")
    assert plot.locator(".main-svg").first.evaluate("(svg) => svg.style.background") == found.all(back)
    found.page.select_option("#theme", "light" if scheme == "dark" else "dark")
    assert found.all(back) == (light if scheme == "dark" else dark)
    found.page.close()


def test_a_report_without_layers_is_a_page_too(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "x.html").write_bytes(page_of(unreadable(tmp_path)))
    found = Opened(browser, tmp_path / "x.html")
    for name in found.figures():
        found.draw(name)
    assert found.troubles == []
    assert found.page.inner_text("#shown") == "0 of 0 layers"
    assert "say which with --assume hyena_shift" in found.page.inner_text("#summary")
    found.page.close()
