"""What addresses are, what is missing for them, other stores of fsspec, and copies in the cache."""

import sys

import fsspec
import pytest
from container_files import CONTAINERS
from range_server import whole

from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.errors import CheckpointError
from ssmspec.statistics import HEADLINES

OPTIONS = AnalysisOptions(points=64, statistics=HEADLINES)


def statistics(given: object) -> list[object]:
    return [layer.statistics for layer in analyze(str(given), OPTIONS).layers]


def test_file_addresses_are_local(tmp_path):
    path = CONTAINERS["safetensors"](tmp_path)
    assert analyze(path.as_uri(), OPTIONS).transfer is None
    assert statistics(path.as_uri()) == statistics(path)


def test_any_filesystem_of_fsspec(tmp_path):
    path = CONTAINERS["torch zip"](tmp_path)
    memory = fsspec.filesystem("memory")
    memory.pipe("/run/model.ckpt", path.read_bytes())
    try:
        assert statistics("memory://run/model.ckpt") == statistics(path)
        assert statistics("memory://run") == statistics(path)
    finally:
        memory.rm("/run", recursive=True)


@pytest.mark.parametrize(
    ("address", "module", "extra"),
    [
        ("https://example.org/x", "aiohttp", "http"),
        ("hf://org/name", "huggingface_hub", "hub"),
        ("s3://bucket/x", "s3fs", "s3"),
        ("gs://bucket/x", "gcsfs", "gcs"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, address, module, extra):
    for name in [name for name in sys.modules if name.startswith(("ssmspec.checkpoint.remote.web", "ssmspec.checkpoint.remote.hub"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, address.partition(":")[0], raising=False)
    with pytest.raises(CheckpointError, match=rf"pip install 'ssmspec\[{extra}\]'"):
        analyze(address)


def test_an_unknown_scheme():
    with pytest.raises(CheckpointError, match=r"^nothing://x: cannot be read \(.*nothing"):
        analyze("nothing://x")


def test_a_server_without_ranges_is_downloaded_once(tmp_path, web, cache, typed):
    path = CONTAINERS["safetensors"](tmp_path)
    web.always["/model.safetensors"] = whole
    address = f"{web.url}/{path.name}"
    assert typed("analyze", address).code == 2
    web.asked.clear()
    for _ in range(2):
        done = typed("analyze", address, "--download", "--points", 64)
        assert done.code == 0, done.err
    assert sum(each.method == "GET" for each in web.of("model.safetensors")) == 1
    (copy,) = cache.rglob("model.safetensors")
    assert copy.read_bytes() == path.read_bytes()


def test_a_folder_of_the_web(tmp_path, web, cache, typed):
    run = tmp_path / "run"
    run.mkdir()
    path = CONTAINERS["safetensors"](run)
    (run / "config.json").write_text("{}")
    (run / "pytorch_model.bin").write_bytes(b"never opened")
    assert statistics(f"{web.url}/run/") == statistics(path)
    done = typed("analyze", f"{web.url}/run/", "--download", "--points", 64)
    assert done.code == 0, done.err
    assert not web.of("pytorch_model.bin")


def test_a_local_analysis_loads_no_client_and_no_converter_of_values(tmp_path):
    import subprocess

    path = CONTAINERS["safetensors"](tmp_path)
    code = (
        "import sys, typer; before = set(sys.modules)\n"
        "from ssmspec.cli import main; sys.argv = ['ssmspec', 'analyze', sys.argv[1], '--points', '64']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "names = ('fsspec', 'aiohttp', 'huggingface_hub', 'torch', 'matplotlib', 'pydantic')\n"
        "print([name for name in names if name in set(sys.modules) - before])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
