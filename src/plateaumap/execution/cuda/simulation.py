"""Simulates points on an NVIDIA GPU: one thread of a kernel for each run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Hashable, Mapping
from typing import Any

import jax
import numpy as np

from plateaumap.execution.cuda.device import Gpu, Kernel
from plateaumap.execution.cuda.kernel import UntranslatableError, translate
from plateaumap.execution.errors import ExecutionError
from plateaumap.experiment.evaluation import Evaluation
from plateaumap.numerics.compiler import double_precision
from plateaumap.table.columns import Arrays

_log = logging.getLogger(__name__)

MOST_KERNELS = 256
"""Evaluations whose kernels are kept. The least recently compiled are dropped."""

_kernels: dict[Hashable, Kernel | None] = {}
_lock = threading.Lock()


def simulate_with_kernel(
    gpu: Gpu,
    evaluation: Evaluation,
    points: Mapping[str, np.ndarray],
    limits: Any,
    order: np.ndarray | None,
) -> Arrays | None:
    """Simulate points with a kernel, and return their records.

    Args:
        gpu: the device.
        evaluation: one run as a pure function.
        points: arrays of shape (n,).
        limits: a pytree of numbers that all runs share.
        order: the order in which the runs start, or None for the order of the points.

    Returns:
        Arrays of shape (n,), or None if the evaluation has no kernel and XLA must compile it.
    """
    points = evaluation.cast(points)
    kernel = _kernel(gpu, evaluation, points, limits)
    return None if kernel is None else kernel(points, jax.tree.leaves(limits), order)


def _kernel(
    gpu: Gpu, evaluation: Evaluation, points: Mapping[str, np.ndarray], limits: Any
) -> Kernel | None:
    key = (gpu, evaluation)
    with _lock:  # Without the lock several threads would compile the same kernel.
        if key not in _kernels:
            _kernels[key] = _compile(gpu, evaluation, points, limits)
            if len(_kernels) > MOST_KERNELS:
                del _kernels[next(iter(_kernels))]
        return _kernels[key]


def _compile(
    gpu: Gpu, evaluation: Evaluation, points: Mapping[str, np.ndarray], limits: Any
) -> Kernel | None:
    one = {name: array[0] for name, array in points.items()}
    try:
        with double_precision():
            return Kernel(gpu, translate(evaluation.evaluate, one, limits, evaluation.data()))
    except UntranslatableError as error:
        _log.info("XLA compiles this model, because no kernel can contain %s", error)
    except ExecutionError as error:
        _log.warning("XLA compiles this model, because its kernel cannot be compiled: %s", error)
    return None
