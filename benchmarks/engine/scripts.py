"""Whole programs, as somebody writes them for one question: T10 of a grid, kept on disk.

`python scripts.py PROGRAM SMALL|LARGE FILE`; starts of w and b over ±5, rates from 0.01 to 10.
Nothing is imported before it is known which program runs.
"""

import sys

SIZES = {"tiny": (16, 4), "small": (64, 16), "large": (256, 16)}
HORIZON = 2000


def with_numpy(steps: int, rates: int, file: str) -> None:
    """Drop finished lanes in NumPy."""
    import numpy as np

    grid = np.linspace(-5, 5, steps), np.linspace(-5, 5, steps), np.geomspace(0.01, 10, rates)
    w, b, lr = (axis.ravel() for axis in np.meshgrid(*grid, indexing="ij"))
    t10, lanes = np.full(w.size, -1), np.arange(w.size)
    level = 0.9 / (1 + np.exp(-w - b)) ** 2
    for epoch in range(HORIZON + 1):
        e = np.exp(-w - b)
        a = 1 / (1 + e)
        square = a * a
        alive = square > level
        if not alive.all():
            t10[lanes[~alive]] = epoch
            w, b, lr, level, lanes, square, e, a = (
                array[alive] for array in (w, b, lr, level, lanes, square, e, a)
            )
        step = lr * square * e * a
        w, b = w - step, b - step
    np.save(file, t10)


def with_while_loop(steps: int, rates: int, file: str) -> None:
    """Map a while loop in JAX."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    jax.config.update("jax_enable_x64", True)

    def loss(parameters: tuple) -> jax.Array:
        return jnp.square(jax.nn.sigmoid(parameters[0] + parameters[1])) / 2

    @jax.jit
    @jax.vmap
    def t10(w: jax.Array, b: jax.Array, lr: jax.Array) -> jax.Array:
        level = 0.9 * loss((w, b))

        def update(state: tuple) -> tuple:
            epoch, p = state
            return epoch + 1, jax.tree.map(lambda v, g: v - lr * g, p, jax.grad(loss)(p))

        def running(state: tuple) -> jax.Array:
            return (loss(state[1]) > level) & (state[0] <= HORIZON)

        epoch, _ = jax.lax.while_loop(running, update, (0, (w, b)))
        return jnp.where(epoch > HORIZON, -1, epoch)

    grid = np.linspace(-5, 5, steps), np.linspace(-5, 5, steps), np.geomspace(0.01, 10, rates)
    np.save(file, t10(*(axis.ravel() for axis in np.meshgrid(*grid, indexing="ij"))))


def with_plateaumap(steps: int, rates: int, file: str) -> None:
    """Describe the sweep and run it, into a folder with all columns that T10 has."""
    import plateaumap as pm
    from plateaumap import cli

    cli.cache_compilations()
    sweep = pm.Sweep(
        name="grid",
        losses="quadratic",
        axes=[
            pm.linspace("w0", -5, 5, steps),
            pm.linspace("b0", -5, 5, steps),
            pm.geomspace("lr", 0.01, 10, rates),
        ],
        horizon=HORIZON,
        until="plateau",
        tolerance=0,
    )
    pm.run(sweep, out=file, progress=False)


PROGRAMS = {
    "plateaumap": with_plateaumap,
    "NumPy, dropping lanes": with_numpy,
    "JAX vmap(while_loop)": with_while_loop,
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*SIZES[sys.argv[2]], sys.argv[3])
