"""Every activation under its quadratic and its matching loss, over initial weight and bias.

`sweep` is the sweep of tanh. `python sweeps/activations.py` runs one sweep per activation, draws a
map into each folder, and draws one figure that compares all activations.
`plateaumap run sweeps/activations.py --set 'experiment.activation="atan"'` runs another one.
"""

import pandas as pd

import plateaumap as pm

TARGETS = {
    "sigmoid": 0.0,
    "tanh": -1.0,
    "softplus": 0.0,
    "probit": 0.0,
    "erf": -1.0,
    "atan": -0.9,
    "softsign": -0.9,
    "algebraic": -1.0,
    "leaky_relu": 0.0,
    "identity": 0.0,
    "exp": 0.0,
    "relu": 0.0,
}
"""A target at the lower end of the outputs, or near it if the matching loss excludes the end."""


def sweep_of(activation: str) -> pm.Sweep:
    """Return the sweep of one activation."""
    return pm.Sweep(
        name=activation,
        experiment=pm.SingleNeuron(activation),
        losses=("quadratic", "matching"),
        axes=[pm.linspace("w0", -4, 4, 65), pm.linspace("b0", -4, 4, 65)],
        fixed={"lr": 0.15, "y": TARGETS[activation]},
        horizon=20_000,
    )


sweep = sweep_of("tanh")


def draw(*results: pm.Results) -> None:
    """Draw the plateau map of each activation into its folder, and one figure of all."""
    from figures.activations import activation_lines

    frames = []
    for result in results:
        frame = result.frame()
        frames.append(frame.assign(activation=result.path.name))
        figures = result.path / "figures"
        figures.mkdir(exist_ok=True)
        pm.figures.save(pm.figures.plateau_map(frame), figures / "plateau_map.png")
    together = results[0].path.parent / "activations.png"
    pm.figures.save(activation_lines(pd.concat(frames)), together)
    print(f"figures are {together} and {results[0].path.parent}/*/figures")


if __name__ == "__main__":
    from plateaumap.cli import run_sweep

    run_sweep(*(sweep_of(activation) for activation in TARGETS), then=draw)
