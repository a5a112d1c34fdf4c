"""The atlas: plateaus over initial weight and bias, for nine learning rates and both losses.

The grid holds the unlucky start (w0 = b0 = 2) and both of its learning rates exactly.
"""

import plateaumap as pm

sweep = pm.Sweep(
    name="plateau_atlas",
    losses=("quadratic", "cross_entropy"),
    axes=[
        pm.linspace("w0", -8, 8, 257),
        pm.linspace("b0", -8, 8, 257),
        pm.values("lr", [0.001, 0.005, 0.015, 0.05, 0.15, 0.5, 1.5, 5, 10]),
    ],
    fixed={"x": 1.0, "y": 0.0},
    horizon=100_000,
)

if __name__ == "__main__":
    from plateaumap.cli import run_sweep

    run_sweep(sweep)
