"""Unusable data: every mistake is reported in one line that says what was given and what to do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from program import Type
from scipy.io import wavfile

X = np.random.default_rng(0).standard_normal((20, 24))
LITTLE = ["--set", "d_model=4", "--set", "n_layers=1", "--set", "d_state=4", "--set", "batch=4", "--steps", 2]


def put(folder: Path, **arrays: Any) -> None:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def with_value(array: np.ndarray, place: tuple[int, ...], value: float) -> np.ndarray:
    changed = array.copy()
    changed[place] = value
    return changed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with one mistake each, and correct files."""
    tmp_path = tmp_path_factory.mktemp("data")
    put(tmp_path, X=X, y=X[:, 0], few=X[:4], one=X[0], short=X[:, :1], empty=X[:0], deep=X.reshape(20, 2, 3, 4), complex=X * 1j)
    put(tmp_path, nan=with_value(X, (7, 3), np.nan), flat=np.ones((20, 24)), huge=X * 1e200)
    put(
        tmp_path,
        y19=X[:19, 0],
        ynan=with_value(X[:, 0], (5,), np.inf),
        yflat=np.ones(20),
        half=np.arange(20) / 2,
        one_class=np.zeros(20, int),
    )
    put(tmp_path, names=np.array([f"class {i}" for i in range(20)]), perS=np.zeros((20, 24, 1)) + X[..., None], perS9=np.ones((20, 9, 1)))
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}] * 20, dtype=object), allow_pickle=True)
    np.savez(tmp_path / "many.npz", a=X, b=X)
    (tmp_path / "words.csv").write_text("id,kind\n" + "\n".join(f"{i},{i % 2}" for i in range(20)))
    (tmp_path / "nothing").mkdir()
    for name in ("mixed/a/1.wav", "mixed/2.wav", "rates/a/1.wav", "sounds/a/1.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        wavfile.write(tmp_path / name, 8000, np.arange(50, dtype=np.int16))
    wavfile.write(tmp_path / "rates/a/2.wav", 16000, np.arange(50, dtype=np.int16))
    (tmp_path / "silence/a").mkdir(parents=True)
    wavfile.write(tmp_path / "silence/a/1.wav", 8000, np.arange(0, dtype=np.int16))
    return tmp_path


ERRORS = {
    "no data": ("regress", None, "y.npy", "give them with --data"),
    "missing": ("regress", "nowhere.npy", "y.npy", "nowhere.npy: no such file"),
    "no target": ("regress", "X.npy", None, "give a file with numbers per sequence: --target"),
    "no labels": ("classify", "X.npy", None, "classify needs labels"),
    "a target to forecast": ("forecast", "X.npy", "y.npy", "leave --target out"),
    "pickle": ("regress", "pickle.npy", "y.npy", "Python objects"),
    "pickled target": ("classify", "X.npy", "pickle.npy", "Python objects"),
    "rows": ("regress", "X.npy", "y19.npy", "has 19 rows, but"),
    "labels": ("classify", "X.npy", "y19.npy", "20 sequences; expected one row per sequence"),
    "few": ("regress", "few.npy", "few.npy", "4 sequences; expected at least 10"),
    "one sequence": ("regress", "one.npy", "one.npy", "1 sequences; expected one row per sequence"),
    "one sample": ("regress", "short.npy", "y.npy", "sequence 0 has 1 samples"),
    "empty": ("forecast", "empty.npy", None, "holds no values"),
    "axes": ("regress", "deep.npy", "y.npy", "flatten images first"),
    "complex": ("regress", "complex.npy", "y.npy", "expected real numbers"),
    "nan": ("regress", "nan.npy", "y.npy", "NaN or infinite values in sequence 7"),
    "nan to forecast": ("forecast", "nan.npy", None, "NaN or infinite values in sequence 7"),
    "constant": ("regress", "flat.npy", "y.npy", "all values are 1"),
    "huge": ("regress", "huge.npy", "y.npy", "rescale them"),
    "nan target": ("regress", "X.npy", "ynan.npy", "NaN or infinite values in row 5"),
    "constant target": ("regress", "X.npy", "yflat.npy", "output 0 is constant"),
    "text to regress": ("regress", "X.npy", "names.npy", "expected real numbers"),
    "labels with fractions": ("classify", "X.npy", "half.npy", "regress takes any numbers"),
    "one class": ("classify", "X.npy", "one_class.npy", "expected at least two classes"),
    "as many classes": ("classify", "X.npy", "names.npy", "20 classes in 20 sequences"),
    "labels of many axes": ("classify", "X.npy", "X.npy", "expected one label per sequence"),
    "per sample": ("regress", "X.npy", "perS.npy", "add --set pooling=none"),
    "per sample, others": ("regress", "X.npy", "perS9.npy", "9 samples per sequence, but 24"),
    "which array": ("regress", "many.npz", "y.npy", "choose one: many.npz:a"),
    "which column": ("classify", "X.npy", "words.csv", "name one as words.csv:COLUMN"),
    "other column": ("classify", "X.npy", "words.csv:sort", "no column 'sort'; it has id, kind"),
    "no sounds": ("classify", "nothing", None, "no .wav files"),
    "mixed sounds": ("classify", "mixed", None, "both sounds and subfolders with sounds"),
    "sounds of two kinds": ("classify", "rates", None, "convert all to one kind"),
    "sound without samples": ("classify", "silence", None, "holds no values"),
    "labels twice": ("classify", "sounds", "y.npy", "leave one of them out"),
}
MORE = {"per sample, others": ["--set", "pooling=none"]}


@pytest.mark.parametrize("case", ERRORS)
def test_data_that_do_not_fit_are_one_line(typed: Type, folder: Path, case: str) -> None:
    task, data, target, text = ERRORS[case]
    named = [part for option, value in (("--data", data), ("--target", target)) if value for part in (option, folder / value)]
    done = typed("train", task, *named, *LITTLE, *MORE.get(case, []), "--out", "run")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert text in done.err


SETTINGS = {
    "pooling": ("regress", "pooling=max", "pooling 'max' is unknown"),
    "pooling of a class": ("classify", "pooling=none", "one class per sequence"),
    "held out": ("regress", "held_out=1.5", "it must be a share between 0 and 1"),
    "layout": ("regress", "layout=s5", "layout 's5' is unknown"),
    "layout and convention": ("forecast", "layout=freqbias-block", "trainable_beta=false"),
    "bidirectional": ("forecast", "bidirectional=true", "does not depend on later samples"),
    "horizon": ("forecast", "horizon=30", "a horizon of 30 needs at least 32"),
    "plane": ("regress", "init=dfout", "needs a single step; add --set step_min"),
    "axes": ("regress", "axes=LX", "layout 'LX' is unknown"),
    "dropout": ("regress", "dropout=1.0", "dropout is 1.0"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_do_not_fit_are_one_line(typed: Type, folder: Path, case: str) -> None:
    task, setting, text = SETTINGS[case]
    target = {"regress": ["--target", folder / "y.npy"], "classify": ["--target", f"{folder}/words.csv:kind"], "forecast": []}[task]
    done = typed("train", task, "--data", folder / "X.npy", *target, *LITTLE, "--set", setting, "--out", "run")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert text in done.err


def test_resume_refuses_data_that_have_changed(typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssmspec.training.engine.run._pictures", lambda *arguments: [])
    put(tmp_path, X=X, y=X[:, 0])
    assert typed("train", "regress", "--data", "X.npy", "--target", "y.npy", *LITTLE, "--out", "run").code == 0
    put(tmp_path, X=X + 1)
    done = typed("train", "regress", "--data", "X.npy", "--out", "run", "--resume")
    assert done.code == 2
    assert "X.npy has changed since the run began" in done.err
    assert "restore the old data, or start anew with --force" in done.err
