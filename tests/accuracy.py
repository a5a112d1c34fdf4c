"""Running a scalar JAX function in a given dtype, and measuring it against mpmath."""

from collections.abc import Callable, Iterable
from functools import cache

import jax
import mpmath
import numpy as np

DTYPES = (np.float64, np.float32)


def compute(function: Callable, *columns: Iterable[float], dtype: type = np.float64) -> np.ndarray:
    """Return a compiled scalar function at each row of some columns, computed in `dtype`."""
    with jax.enable_x64(dtype is np.float64):
        arrays = [np.asarray(column, dtype) for column in columns]
        result = np.asarray(_compiled(function)(*arrays))
    assert result.dtype == dtype
    return result


@cache
def _compiled(function: Callable) -> Callable:
    return jax.jit(jax.vmap(function))


def exactly(
    function: Callable, *columns: Iterable[float], dtype: type = np.float64, digits: int = 60
) -> list:
    """Return an mpmath function at the same rows, of the inputs as rounded to `dtype`."""
    rows = zip(*(np.asarray(column, dtype).astype(float) for column in columns), strict=True)
    with mpmath.workdps(digits):
        return [function(*map(mpmath.mpf, row)) for row in rows]


def relative_errors(values: np.ndarray, exact: list, least: float = 0.0) -> np.ndarray:
    """Return |value − exact| over the larger of |exact| and `least`; 0 where both vanish."""
    with mpmath.workdps(60):
        tiny = mpmath.mpf("1e-4000")
        pairs = zip(map(mpmath.mpf, values.astype(float)), exact, strict=True)
        errors = [abs(v - e) / max(abs(e), least, tiny) for v, e in pairs]
    return np.array([float(e) if mpmath.isfinite(e) else np.inf for e in errors])


def either_sign(magnitudes: np.ndarray) -> np.ndarray:
    """Return the magnitudes with both signs, and zero."""
    return np.concatenate([-magnitudes[::-1], [0.0], magnitudes])
