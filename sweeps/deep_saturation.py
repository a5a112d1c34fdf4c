"""Deep saturation: plateaus over fifteen decades, by theory, where nobody can simulate them.

Initial weight and bias over ±18; at the far corner the quadratic loss waits for 10¹⁶ epochs, and
the cross-entropy for 13.
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
