"""Exact plateau lengths of millions of training runs, for any initial point, rate and loss.

Use `Sweep` and `run` for a sweep, `simulate` for the curve of one run, and `plateau_epochs` for
lengths by theory. Names are loaded when they are first used: importing the package starts nothing
and changes no setting of JAX, matplotlib or the environment.

Example:
    >>> import plateaumap as pm
    >>> sweep = pm.Sweep(fixed={"w0": 2, "b0": 2, "lr": 0.15})  # both losses
    >>> pm.run(sweep)["plateau_epochs"].tolist()
    [152, 2]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from plateaumap.numerics import forking as _forking  # noqa: F401  (records forks, starts nothing)

if TYPE_CHECKING:
    from plateaumap import neuron as neuron
    from plateaumap.execution.backend import Backend as Backend
    from plateaumap.experiment.coordinates import Coordinate as Coordinate
    from plateaumap.experiment.protocol import Experiment as Experiment
    from plateaumap.experiment.single_neuron import SingleNeuron as SingleNeuron
    from plateaumap.inputs.errors import PlateaumapError as PlateaumapError
    from plateaumap.inputs.errors import SpecError as SpecError
    from plateaumap.neuron import losses as losses
    from plateaumap.neuron.initialisation import Initialisation as Initialisation
    from plateaumap.queries.compare import add_theory as add_theory
    from plateaumap.queries.risk import Risk as Risk
    from plateaumap.queries.risk import risk as risk
    from plateaumap.queries.simulate import simulate as simulate
    from plateaumap.report import figures as figures
    from plateaumap.runner.extend import extend as extend
    from plateaumap.runner.run import RunError as RunError
    from plateaumap.runner.run import evaluate as evaluate
    from plateaumap.runner.run import run as run
    from plateaumap.storage.results import Results as Results
    from plateaumap.storage.results import load as load
    from plateaumap.storage.results import open_results as open  # noqa: F401
    from plateaumap.sweep.axes import geomspace as geomspace
    from plateaumap.sweep.axes import linspace as linspace
    from plateaumap.sweep.axes import normal as normal
    from plateaumap.sweep.axes import points as points
    from plateaumap.sweep.axes import uniform as uniform
    from plateaumap.sweep.axes import values as values
    from plateaumap.sweep.axes import zip as zip
    from plateaumap.sweep.spec import Sweep as Sweep
    from plateaumap.theory.base import Theory as Theory
    from plateaumap.theory.epochs import plateau_epochs as plateau_epochs
    from plateaumap.training import measures as measures

_MODULES = {
    "figures": "plateaumap.report.figures",
    "losses": "plateaumap.neuron.losses",
    "measures": "plateaumap.training.measures",
    "neuron": "plateaumap.neuron",
}

_NAMES = {
    "Backend": "plateaumap.execution.backend:Backend",
    "Coordinate": "plateaumap.experiment.coordinates:Coordinate",
    "PlateaumapError": "plateaumap.inputs.errors:PlateaumapError",
    "SpecError": "plateaumap.inputs.errors:SpecError",
    "Experiment": "plateaumap.experiment.protocol:Experiment",
    "SingleNeuron": "plateaumap.experiment.single_neuron:SingleNeuron",
    "geomspace": "plateaumap.sweep.axes:geomspace",
    "linspace": "plateaumap.sweep.axes:linspace",
    "normal": "plateaumap.sweep.axes:normal",
    "points": "plateaumap.sweep.axes:points",
    "uniform": "plateaumap.sweep.axes:uniform",
    "values": "plateaumap.sweep.axes:values",
    "zip": "plateaumap.sweep.axes:zip",
    "Initialisation": "plateaumap.neuron.initialisation:Initialisation",
    "Risk": "plateaumap.queries.risk:Risk",
    "risk": "plateaumap.queries.risk:risk",
    "RunError": "plateaumap.runner.run:RunError",
    "add_theory": "plateaumap.queries.compare:add_theory",
    "evaluate": "plateaumap.runner.run:evaluate",
    "extend": "plateaumap.runner.extend:extend",
    "Theory": "plateaumap.theory.base:Theory",
    "plateau_epochs": "plateaumap.theory.epochs:plateau_epochs",
    "run": "plateaumap.runner.run:run",
    "simulate": "plateaumap.queries.simulate:simulate",
    "Sweep": "plateaumap.sweep.spec:Sweep",
    "Results": "plateaumap.storage.results:Results",
    "load": "plateaumap.storage.results:load",
    "open": "plateaumap.storage.results:open_results",
}

__version__ = "0.1.0"
__all__ = [*_MODULES, *_NAMES, "__version__"]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in _NAMES:
        module, _, attribute = _NAMES[name].partition(":")
        value = getattr(import_module(module), attribute)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'plateaumap' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
