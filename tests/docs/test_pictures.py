"""The pictures of the documentation are what the script draws from the samples."""

import numpy as np
import pytest
from locations import ROOT
from matplotlib.image import imread


def test_the_picture_of_alpha_and_beta_is_what_the_script_draws(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anti-aliasing may differ between versions of matplotlib; another curve changes more."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    from pictures import alpha_beta

    alpha_beta(tmp_path / "drawn.png")
    drawn, stored = imread(tmp_path / "drawn.png"), imread(ROOT / "docs" / "images" / "alpha_beta.png")
    assert drawn.shape == stored.shape
    assert np.abs(drawn - stored).mean() < 0.01
