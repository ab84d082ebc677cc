"""The model of frames around ConvS5 layers: shapes, parameters, and that no frame depends on later ones."""

from typing import Any

import pytest
import torch
from torch.nn.utils import parameters_to_vector
from video_sizes import parameters

from ssmspec.errors import LayerError
from ssmspec.nn import VideoModel

TINY = {"channels": 3, "depths": (4, 8), "d_model": 8, "n_layers": 2, "groups": 4, "d_state": 8}


def model(**options: Any) -> VideoModel:
    torch.manual_seed(0)
    return VideoModel(**TINY | options)


@pytest.mark.parametrize("options", [{}, {"depths": (4,)}, {"depths": (4, 8, 12), "d_model": 4, "n_layers": 1}])
def test_the_model_gives_frames_for_frames_and_has_its_parameters(options) -> None:
    made = model(**options)
    frames = torch.randn(2, 5, 3, 8, 12)
    assert made(frames).shape == frames.shape
    sizes = {name: value for name, value in (TINY | options).items() if name != "groups"}
    assert len(parameters_to_vector(made.parameters())) == parameters(**sizes)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_no_frame_depends_on_later_ones_and_all_on_earlier_ones(beta: float) -> None:
    made = model(beta=beta, theta_ref=0.1).double()
    frames = torch.randn(1, 6, 3, 8, 8, dtype=torch.float64)
    early, late = frames.clone(), frames.clone()
    early[:, 0], late[:, 4:] = 0, 1
    wanted = made(frames)
    assert (made(late) - wanted)[:, :4].abs().max() < 1e-12
    assert ((made(early) - wanted).abs().amax((0, 2, 3, 4)) > 1e-6).all()


def test_a_bounded_output_is_the_tanh_of_a_free_one() -> None:
    frames = torch.randn(1, 2, 3, 8, 8)
    torch.testing.assert_close(model()(frames), model(bounded=False)(frames).tanh())


def test_every_layer_gets_its_own_poles() -> None:
    poles = [[-1 + 1j * (4 * layer + mode) for mode in range(4)] for layer in range(2)]
    assert [layer.seq.Lambda_im.tolist() for layer in model(poles=poles).layers] == [[0, -1, -2, -3], [-4, -5, -6, -7]]


def test_sizes_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(LayerError, match="groups is 3"):
        model(groups=3)
    with pytest.raises(LayerError, match="both sides multiples of 2"):
        model()(torch.zeros(1, 2, 3, 8, 9))
