"""Which way up LIBERO's pictures are.

MuJoCo renders from the lowest row up, and LIBERO keeps it so: in its HDF5 files and its observations everything stands
on its head. What LIBERO policies were trained on (openpi's and lerobot's datasets alike) is turned by 180 degrees:
upright, with left and right exchanged.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def upright(pictures: NDArray) -> NDArray:
    """LIBERO's pictures (..., h, w, 3) as LIBERO policies take them: turned by 180 degrees. Its own inverse."""
    return np.ascontiguousarray(pictures[..., ::-1, ::-1, :])
