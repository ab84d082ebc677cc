import pytest
from range_server import serving

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")


@pytest.fixture
def web(tmp_path):
    """A server of the files in the test's folder."""
    with serving(tmp_path) as rules:
        yield rules


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No waiting between tries, and no copies outside of the test's folder."""
    from ssmspec.checkpoint.remote import checks

    monkeypatch.setattr(checks, "WAIT", 0.001)
    monkeypatch.setattr(checks, "LONGEST_WAIT", 0.01)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SSMSPEC_CACHE", str(folder))
    return folder
