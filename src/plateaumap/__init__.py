"""How long does a neuron sit on its plateau before it learns?

Exact plateau lengths of millions of training runs at once, for every start, learning rate and
loss. See `Sweep` and `run` for a sweep, `simulate` for one whole curve, `plateau_epochs` for
lengths by theory. Names are loaded when they are first used: importing the package starts
nothing and changes no setting of JAX, matplotlib or the environment.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from plateaumap import forking as _forking  # noqa: F401  (notes forks, starts nothing)

if TYPE_CHECKING:
    from plateaumap import figures as figures
    from plateaumap import losses as losses
    from plateaumap import measures as measures
    from plateaumap import neuron as neuron
    from plateaumap.comparing import add_theory as add_theory
    from plateaumap.errors import PlateaumapError as PlateaumapError
    from plateaumap.errors import SpecError as SpecError
    from plateaumap.experiment.coordinates import Coordinate as Coordinate
    from plateaumap.experiment.protocol import Experiment as Experiment
    from plateaumap.experiment.single_neuron import SingleNeuron as SingleNeuron
    from plateaumap.extension import extend as extend
    from plateaumap.grid import geomspace as geomspace
    from plateaumap.grid import linspace as linspace
    from plateaumap.grid import normal as normal
    from plateaumap.grid import points as points
    from plateaumap.grid import uniform as uniform
    from plateaumap.grid import values as values
    from plateaumap.grid import zip as zip
    from plateaumap.initialisation import Initialisation as Initialisation
    from plateaumap.runner import RunError as RunError
    from plateaumap.runner import evaluate as evaluate
    from plateaumap.runner import run as run
    from plateaumap.simulation import simulate as simulate
    from plateaumap.spec import Sweep as Sweep
    from plateaumap.storage.results import Results as Results
    from plateaumap.storage.results import load as load
    from plateaumap.storage.results import open_results as open  # noqa: F401
    from plateaumap.stuck import Risk as Risk
    from plateaumap.stuck import risk as risk
    from plateaumap.theory.epochs import plateau_epochs as plateau_epochs
    from plateaumap.theory.theory import Theory as Theory

_MODULES = {name: f"plateaumap.{name}" for name in ("figures", "losses", "measures", "neuron")}

_NAMES = {
    "Coordinate": "plateaumap.experiment.coordinates:Coordinate",
    "PlateaumapError": "plateaumap.errors:PlateaumapError",
    "SpecError": "plateaumap.errors:SpecError",
    "Experiment": "plateaumap.experiment.protocol:Experiment",
    "SingleNeuron": "plateaumap.experiment.single_neuron:SingleNeuron",
    "geomspace": "plateaumap.grid:geomspace",
    "linspace": "plateaumap.grid:linspace",
    "normal": "plateaumap.grid:normal",
    "points": "plateaumap.grid:points",
    "uniform": "plateaumap.grid:uniform",
    "values": "plateaumap.grid:values",
    "zip": "plateaumap.grid:zip",
    "Initialisation": "plateaumap.initialisation:Initialisation",
    "Risk": "plateaumap.stuck:Risk",
    "risk": "plateaumap.stuck:risk",
    "RunError": "plateaumap.runner:RunError",
    "add_theory": "plateaumap.comparing:add_theory",
    "evaluate": "plateaumap.runner:evaluate",
    "extend": "plateaumap.extension:extend",
    "Theory": "plateaumap.theory.theory:Theory",
    "plateau_epochs": "plateaumap.theory.epochs:plateau_epochs",
    "run": "plateaumap.runner:run",
    "simulate": "plateaumap.simulation:simulate",
    "Sweep": "plateaumap.spec:Sweep",
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
