"""What stands around the package: the action, the hook, the image, the citation, and the README on package indexes."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from locations import HANG, ROOT, SAMPLES
from program import Type, checkpoint, s4d_tensors
from safetensors.numpy import save_file

import ssmspec

yaml = pytest.importorskip("yaml")

ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
(HOOK,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A checkpoint with NaN, in a folder whose name a workflow command must escape."""
    tensors = s4d_tensors()
    tensors["layers.0.kernel.C"][1, 0, 0] = np.nan
    (tmp_path / "a,b").mkdir()
    return checkpoint(tmp_path / "a,b", tensors)


# --- workflow commands ---


def test_findings_become_annotations(typed: Type, broken: Path) -> None:
    done = typed("check", broken, "--format", "github")
    assert done.code == 1
    annotations = [line for line in done.out.splitlines() if line.startswith("::error ")]
    assert any(line.startswith(f"::error file={str(broken).replace(',', '%2C')},title=not-finite::layers.0: ") for line in annotations)
    assert json.loads(typed("check", broken, "--format", "json").out)["counts"]["error"] == len(annotations)


def test_a_warning_is_an_error_only_where_it_fails(typed: Type, tmp_path: Path) -> None:
    tensors = s4d_tensors()
    tensors["layers.0.kernel.log_dt"][:] = 1.0  # a step of e
    path = checkpoint(tmp_path, tensors)
    assert "::warning file=" in typed("check", path, "--format", "github").out
    strict = typed("check", path, "--format", "github", "--strict")
    assert strict.code == 1
    assert "title=step-range::" in strict.out
    assert "::warning" not in strict.out


def test_a_file_without_findings_prints_nothing(typed: Type, tmp_path: Path) -> None:
    tensors = s4d_tensors()
    tensors["layers.0.kernel.log_A_real"] = np.log(np.arange(1.0, 13.0, dtype=np.float32).reshape(4, 3) / 10)
    done = typed("check", checkpoint(tmp_path, tensors), "--format", "github")
    assert (done.code, done.out) == (0, "")


def test_a_file_that_cannot_be_read_is_an_error(typed: Type, tmp_path: Path) -> None:
    done = typed("check", SAMPLES / "lru_trained.npz", tmp_path / "none.npz", "--format", "github")
    assert done.code == 2
    assert "title=not read::" in done.out


# --- the action ---


def action(folder: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """The last step of the action, as a runner calls it: bash with the inputs in the environment."""
    step = ACTION["runs"]["steps"][-1]
    values = {name: str(entry.get("default", "")) for name, entry in ACTION["inputs"].items()} | inputs
    names = {variable: re.fullmatch(r"\$\{\{ inputs\.(\w+) \}\}", text)[1] for variable, text in step["env"].items()}  # type: ignore[index]
    (folder / "bin").mkdir()
    program = folder / "bin" / "ssmspec"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ssmspec "$@"\n')
    program.chmod(0o755)
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {variable: values[name] for variable, name in names.items()} | {"PATH": path}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment, timeout=HANG)


def test_the_action_is_composite_and_describes_its_inputs() -> None:
    assert ACTION["runs"]["using"] == "composite"
    assert {"checkpoints", "rules", "severity"} <= set(ACTION["inputs"])
    assert all(entry["description"] for entry in ACTION["inputs"].values())
    assert all(step.get("shell") == "bash" for step in ACTION["runs"]["steps"] if "run" in step)
    assert not any("${{" in step.get("run", "") for step in ACTION["runs"]["steps"])  # inputs come by the environment: nobody can inject


def test_the_action_checks_globs_and_annotates(tmp_path: Path) -> None:
    tensors = s4d_tensors()
    tensors["layers.0.kernel.log_dt"][:] = 1.0
    checkpoint(tmp_path, tensors, "one.safetensors")
    (tmp_path / "rules.toml").write_text('[rules]\ndisable = ["beyond-nyquist", "duplicated-modes", "unusual-decay"]\n')
    done = action(tmp_path, checkpoints="*.safetensors", rules="rules.toml", severity="warning")
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("::error file=one.safetensors,title=step-range::")


def test_the_action_refuses_another_severity(tmp_path: Path) -> None:
    done = action(tmp_path, checkpoints="none", severity="info")
    assert (done.returncode, done.stdout) == (2, "::error::severity is 'info'; expected error or warning\n")


# --- the hook ---


def test_the_hook_runs_on_checkpoints_only(typed: Type, tmp_path: Path) -> None:
    names = ["a.safetensors", "b/c.pt", "d.npz", "model.py", "weights.txt"]
    assert [name for name in names if re.search(HOOK["files"], name)] == names[:3]
    assert HOOK["language"] == "python"
    words = shlex.split(HOOK["entry"])
    assert words[0] in PROJECT["scripts"]
    save_file(s4d_tensors(), tmp_path / "good.safetensors")
    assert typed(*words[1:], "good.safetensors").code == 0


# --- the image ---


def docker() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in text.splitlines() if line and not line.startswith("#")]


def test_the_image_has_everything_that_its_build_needs() -> None:
    copied = [word for name, rest in docker() if name == "COPY" for word in rest.split()[:-1]]
    assert all((ROOT / word).exists() for word in copied)
    assert {"pyproject.toml", "README.md", "LICENSE", "hatch_build.py", "ssmspec"} <= set(copied)
    assert [name for name, _ in docker()].count("ENTRYPOINT") == 1


@pytest.mark.nightly
def test_the_lines_of_the_image_run_in_a_fresh_environment(tmp_path: Path) -> None:
    """There is no Docker here: COPY, RUN and ENTRYPOINT are done by hand. Needs the package index, and half an hour at most."""
    import shutil
    import venv

    venv.create(tmp_path / "venv", with_pip=True)
    environment = {"PATH": f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    source = tmp_path / "source"
    source.mkdir()
    for name, rest in docker():
        if name == "COPY":
            *words, target = rest.split()
            for word in words:
                if (ROOT / word).is_dir():
                    shutil.copytree(ROOT / word, source / target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / word, source)
        if name == "RUN":
            subprocess.run(rest, shell=True, check=True, cwd=source, env=environment, timeout=HANG)
        if name == "ENTRYPOINT":
            command = [*json.loads(rest), str(SAMPLES / "s4d_trained.safetensors")]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment, timeout=HANG)
            assert "s4_layers.0" in done.stdout


# --- metadata ---


def test_the_citation_has_the_version_and_the_authors_of_the_project() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == ssmspec.__version__
    assert citation["authors"] == PROJECT["authors"] == [{"name": "The ssmspec authors"}]
    assert {"cff-version", "message", "title"} <= set(citation)


def test_the_readme_of_a_package_index_has_absolute_links_where_there_is_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hatchling")
    monkeypatch.syspath_prepend(str(ROOT))
    from hatch_build import Readme, absolute

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert absolute("[a](docs/b.md) [c](https://d) [e](#f)", "") == "[a](docs/b.md) [c](https://d) [e](#f)"
    assert absolute("![a](b.png) [c](https://d) [e](#f)", "https://x/") == "![a](https://x/b.png) [c](https://d) [e](#f)"
    metadata: dict[str, object] = {}
    Readme(str(ROOT), {"address": ""}).update(metadata)
    assert metadata["readme"] == {"content-type": "text/markdown", "text": text}
