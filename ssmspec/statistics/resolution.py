"""Notes on a grid of frequencies that shows less, or more, than an explicit kernel has."""

import numpy as np

from ssmspec.statistics.explicit import KernelSpectrum

LONG = 1024  # samples that hold the energy; the grid from pi/1024 samples shorter kernels finely enough to show their structure


def grid_notes(spectrum: KernelSpectrum) -> list[str]:
    """What to know about |H| on the grid: where it lies below 2 pi/L, and where it is coarser than the structure of the kernel.

    A kernel whose energy lies in M samples has structure about 2 pi/M wide.
    """
    theta, length = spectrum.grid.values, spectrum.system.length
    notes, lowest = [], 2 * np.pi / length
    if theta[0] < lowest:
        count = int((theta < lowest).sum())
        notes.append(
            f"{count} of {theta.size} frequencies of the grid lie below 2 pi/L = {lowest:.3g} rad/sample, where a kernel of {length} "
            "samples has less than one period: |H| says little there"
        )
    extent = float(np.nanmax(spectrum.extent.length)) if np.isfinite(spectrum.extent.length).any() else 0.0
    width = 2 * np.pi / max(extent, 1.0)
    coarse = np.diff(theta) > width
    if extent > LONG and coarse.any():
        edge = theta[int(coarse.argmax())]
        notes.append(
            f"above {edge:.3g} rad/sample the grid is coarser than the structure of the kernel, about {width:.3g} rad/sample wide (99 % of "
            f"the energy within up to {extent:.0f} samples): center_frequency, spectral_slope and the curve are samples of it"
        )
    return notes
