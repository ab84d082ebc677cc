"""The membrane potential of a firing neuron: a measured series of 12 000 samples that matplotlib ships.

Source: matplotlib, lib/matplotlib/mpl-data/sample_data/membrane.dat. Unit and sample interval are those of the 2003 logo plot in its
documentation (doc/project/history.rst).
"""

from pathlib import Path

import numpy as np

from ssmspec.errors import SsmspecError
from ssmspec.systems.statespace import FloatArray

SAMPLES = 12_000
SAMPLE_RATE = 2000.0  # [Hz]
MILLIVOLTS = 100.0  # per unit of the file
NAME = "membrane.dat of matplotlib"


def membrane_file() -> Path:
    """The path of the file.

    Raises:
        SsmspecError: matplotlib was installed without this file.
    """
    from matplotlib import cbook

    path = Path(str(cbook.get_sample_data("membrane.dat", asfileobj=False)))
    if not path.is_file():
        raise SsmspecError(f"{path}: no such file, although matplotlib ships it; reinstall matplotlib, or give your own series with --data")
    return path


def read_membrane() -> FloatArray:
    """The potential [mV], (12000,).

    Raises:
        SsmspecError: as `membrane_file`, or the file has another size or values that are not finite.
    """
    path = membrane_file()
    values = np.fromfile(path, "<f4").astype(np.float64)
    if len(values) != SAMPLES or not np.isfinite(values).all():
        raise SsmspecError(f"{path} does not hold {SAMPLES} finite values; reinstall matplotlib, or give your own series with --data")
    return values * MILLIVOLTS
