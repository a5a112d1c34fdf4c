"""Deep saturation: plateau lengths over fifteen decades, by theory, beyond any simulation.

The initial weight and bias range over ±18. At the far corner the plateau of the quadratic loss is
10¹⁶ epochs long, and that of the cross-entropy 13 epochs.
"""

import plateaumap as pm

sweep = pm.Sweep(
    name="deep_saturation",
    losses=("quadratic", "cross_entropy"),
    axes=[pm.linspace("w0", -18, 18, 289), pm.linspace("b0", -18, 18, 289)],
    fixed={"lr": 0.15},
    method="leap",
    horizon=None,
)

if __name__ == "__main__":
    from plateaumap.cli import run_sweep

    run_sweep(sweep)
