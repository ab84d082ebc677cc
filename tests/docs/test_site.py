"""The site is built without a warning, from files of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from locations import HANG, ROOT

pytestmark = pytest.mark.nightly  # .ci/run builds it, too


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site without the outputs of its notebooks."""
    pytest.importorskip("furo")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", "-d", str(folder / "doctrees"), "docs", str(folder / "html")]
    environment = os.environ | {"SSMSPEC_NOTEBOOKS": "off"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment, timeout=HANG)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 100
    loads = r"<(?:script|img|iframe|source|link)[^>]*?(?:src|href)=\"((?:https?:)?//[^\"]+)\""
    found = {path.name: re.findall(loads, path.read_text(encoding="utf-8")) for path in pages}
    assert {name: addresses for name, addresses in found.items() if addresses} == {}
    styles = {
        path.name: re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", path.read_text(encoding="utf-8")) for path in site.rglob("*.css")
    }
    assert {name: addresses for name, addresses in styles.items() if addresses} == {}


def test_search_has_an_index_of_its_own(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert index.startswith("Search.setIndex(")
    assert "half_lif" in index or "half" in index
