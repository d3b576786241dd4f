"""The one door to Numba: kernels that run without the interpreter's lock, so that threads use all cores."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

__all__ = ["compiled"]

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def compiled(function: Kernel) -> Kernel:
    """Compile a function to machine code at its first call; the code is kept on disk for the next process."""
    return cast(Kernel, numba.njit(nogil=True, cache=True, error_model="numpy")(function))
