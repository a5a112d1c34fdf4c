"""The command line: parse the arguments, call the package, print the result.

Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted (the same command resumes).
"""

import functools
import inspect
import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, ParamSpec, TypeVar

import typer

from plateaumap.inputs.errors import PlateaumapError

if TYPE_CHECKING:
    from plateaumap.execution.backend import Backend
    from plateaumap.storage.results import Results
    from plateaumap.sweep.spec import Sweep

INTERRUPTED = 130

_SETTINGS: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False}
app = typer.Typer(
    name="plateaumap",
    help="How long does a neuron sit on its plateau before it learns?",
    no_args_is_help=True,
    **_SETTINGS,
)

P = ParamSpec("P")
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _option(help: str, *names: str, **settings: Any) -> Any:
    """Return the declaration of an option with a help text."""
    return typer.Option(*names, help=help, **settings)


Settings = Annotated[
    list[str] | None,
    _option("Change the spec: horizon=5000, axes.w0.num=65.", "--set", metavar="NAME=VALUE"),
]
Out = Annotated[Path | None, _option("Folder of results; by default results/NAME.")]
Threads = Annotated[int | None, _option("Threads; by default one per core.", min=1)]
Force = Annotated[bool, _option("Move a folder of another sweep aside.")]
MixVersions = Annotated[bool, _option("Keep rows that other versions of the libraries computed.")]
DryRun = Annotated[bool, _option("Show the size and the time of the run; write nothing.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of results.")]
BackendOption = Annotated[
    Literal["local", "dask"] | None,
    _option("local: this process (default). dask: a cluster of processes.", "--backend"),
]
Scheduler = Annotated[
    str | None, _option("Dask cluster to join; by default a new one here.", metavar="ADDRESS")
]
Workers = Annotated[
    int | None, _option("Processes of a new cluster; by default one per core or GPU.", min=1)
]


def main() -> None:
    """Run the command line; the entry point of the program `plateaumap`."""
    prepare_process()
    app()


def prepare_process() -> None:
    """Make the output of this program independent of its surroundings.

    Figures go into files, so a backend that a notebook sets in MPLBACKEND, and that may not be
    installed here, does not apply. The output replaces a character that its encoding lacks by "?".
    """
    os.environ["MPLBACKEND"] = "agg"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Turn an error that a user can cause into one message and an exit code."""

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            _import_jax()
            command(*args, **kwargs)
        except PlateaumapError as error:
            _stop(_in_options(str(error), command), error.exit_code)
        except KeyboardInterrupt:
            _stop("interrupted: finished parts are kept; repeat the command to go on", INTERRUPTED)
        except BrokenPipeError:
            # The reader of the output has closed it, so no message can be printed.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return guarded


def _import_jax() -> None:
    """Import JAX, which reads its environment variables now.

    Raises:
        PlateaumapError: a variable has a value that JAX does not accept.
    """
    try:
        import jax  # noqa: F401
    except ValueError as error:
        raise PlateaumapError(
            f"JAX does not start: {error}; correct this environment variable, or unset it"
        ) from error


def _in_options(message: str, command: Callable[..., Any]) -> str:
    """Return a message with the options of a command in place of its arguments."""
    for name, parameter in inspect.signature(command).parameters.items():
        declaration = parameter.annotation.__metadata__[0]
        if isinstance(declaration, typer.models.OptionInfo):
            option = (declaration.param_decls or [f"--{name.replace('_', '-')}"])[0]
            argument = rf"(?<![\w.])(?:fixed\.)?{name}"
            message = re.sub(rf"{argument}( = None|: missing)\b", f"{option} is missing", message)
            message = re.sub(f"{argument} = ", f"{option} ", message)
    return message


def _stop(message: str, code: int) -> NoReturn:
    typer.echo(f"plateaumap: {message}", err=True)
    raise typer.Exit(code)


def _with_options_of(source: Callable[..., Any]) -> Callable[[_Command], _Command]:
    """Return a decorator that replaces the `**options` of a command by those of a function."""

    def decorate(command: _Command) -> _Command:
        parameters = [
            *(p for p in inspect.signature(command).parameters.values() if p.kind != p.VAR_KEYWORD),
            *(p for p in inspect.signature(source).parameters.values() if p.default != p.empty),
        ]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def _backend(
    *,
    threads: Threads = None,
    backend: BackendOption = None,
    scheduler: Scheduler = None,
    workers: Workers = None,
) -> "Backend":
    """Return the backend of the options."""
    from plateaumap.execution.backend import select_backend

    selected = select_backend(
        backend=backend, threads=threads, scheduler=scheduler, workers=workers
    )
    selected.announce = functools.partial(typer.echo, err=True)
    if selected.name == "dask":
        import jax

        # The workers use the accelerators. JAX would reserve their memory in this process too.
        jax.config.update("jax_platforms", "cpu")
    return selected


@_with_options_of(_backend)
def _run(
    sweep: "Sweep",
    *,
    out: Out = None,
    settings: Settings = None,
    force: Force = False,
    dry_run: DryRun = False,
    mix_versions: MixVersions = False,
    **options: Any,
) -> "Results | None":
    """Run a sweep and return its results, or None after a dry run."""
    from plateaumap.runner.estimate import estimate
    from plateaumap.runner.run import run
    from plateaumap.sweep.settings import parse_setting

    backend = _backend(**options)
    cache_compilations()
    if settings:
        sweep = sweep.with_settings(dict(map(parse_setting, settings)))
    folder = out or Path("results") / sweep.name
    if dry_run:
        threads = options.get("threads")
        typer.echo(estimate(sweep, folder, threads, mix_versions).to_text())
        return None
    results = run(sweep, folder, force=force, backend=backend, mix_versions=mix_versions)
    typer.echo(_summary(results))
    return results


@app.command(epilog="Example: plateaumap run sweep.toml --out results/corner --set horizon=5000")
@_guarded
@_with_options_of(_run)
def run(
    file: Annotated[Path, typer.Argument(help="A .toml spec, or a .py that defines `sweep`.")],
    **options: Any,
) -> None:
    """Run a sweep into a folder. The same command resumes an interrupted run."""
    from plateaumap.sweep.files import load_spec

    _run(load_spec(file), **options)


def run_sweep(*sweeps: "Sweep", then: Callable[..., object] | None = None) -> None:
    """Run the sweep of a script with the options of `plateaumap run`.

    Args:
        sweeps: the sweeps of the script. Each of several goes into a folder of its name, in one
            folder for the script.
        then: a function of the finished results (one argument per sweep), such as one that draws
            them.

    Example:
        A script ends with these lines::

            if __name__ == "__main__":
                run_sweep(sweep)
    """

    @_guarded
    @_with_options_of(_run)
    def command(**options: Any) -> None:
        parent = options.pop("out")
        folders = [parent]
        if len(sweeps) > 1:
            parent = parent or Path("results") / Path(sys.argv[0]).stem
            folders = [parent / sweep.name for sweep in sweeps]
        pairs = zip(sweeps, folders, strict=True)
        results = [_run(sweep, out=folder, **options) for sweep, folder in pairs]
        if then is not None and not options["dry_run"]:
            then(*results)

    help = sys.modules["__main__"].__doc__ or f"Run the sweep {sweeps[0].name}."
    script = typer.Typer(**_SETTINGS)
    script.command(help=help)(command)
    prepare_process()
    script()


@app.command(epilog="Example: plateaumap extend results/corner --set horizon=9000")
@_guarded
@_with_options_of(_backend)
def extend(
    folder: Folder,
    settings: Settings = None,
    out: Annotated[Path | None, _option("Folder of the new sweep; by default beside DIR.")] = None,
    file: Annotated[Path | None, _option("A .py whose `sweep` has the custom parts.")] = None,
    mix_versions: MixVersions = False,
    **options: Any,
) -> None:
    """Run a larger sweep that reuses every row of DIR that is still valid in it."""
    from plateaumap.runner.extend import Extension
    from plateaumap.sweep.files import load_spec
    from plateaumap.sweep.settings import parse_setting

    cache_compilations()
    changes = dict(map(parse_setting, settings or []))
    sweep = None if file is None else load_spec(file)
    extension = Extension(folder, changes, out, sweep, mix_versions)
    results = extension.run(_backend(**options))
    typer.echo(f"{extension.reused:,} rows were reused from {folder}")
    typer.echo(_summary(results))


def _summary(results: "Results") -> str:
    counts = ", ".join(f"{number:,} {status}" for status, number in results.counts().items())
    return f"{results.path}: {results.manifest['plan']['points']:,} points, {counts}"


@app.command(epilog="Example: plateaumap info results/corner --verify")
@_guarded
def info(
    folder: Folder,
    verify: Annotated[bool, _option("Compare every part with its checksums.")] = False,
) -> None:
    """Show the sweep, the provenance and the counts by status of a folder of results."""
    from plateaumap.queries.overview import overview
    from plateaumap.storage.results import open_results

    results = open_results(folder)
    typer.echo(overview(results))
    if verify:
        damages = results.verify()
        if damages:
            typer.echo("\n".join(damages))
            typer.echo("run the sweep again to compute damaged and missing parts anew")
            raise typer.Exit(1)
        typer.echo("verified: every part is as it was written")


@app.command(epilog="Example: plateaumap report results/corner")
@_guarded
def report(folder: Folder) -> None:
    """Write the figures of a finished sweep, and a page with an interactive map, into DIR."""
    from importlib.util import find_spec

    from plateaumap.queries.compare import add_theory
    from plateaumap.queries.simulate import simulate
    from plateaumap.report import findings, write_report
    from plateaumap.storage.results import open_results

    results = open_results(folder)
    page = find_spec("bokeh") is not None
    written = write_report(results, simulate=simulate, theory=add_theory, page=page)
    typer.echo(f"look at {results.path / 'figures'}: {len(written) - page} files, report.md first")
    if page:
        typer.echo(f"open {written[-1]} in a browser: one file with an interactive map")
    else:
        typer.echo("report.html needs Bokeh: pip install 'plateaumap[report]'")
    for sentence in findings(results.frame()):
        typer.echo(sentence)


@app.command(epilog="Example: plateaumap explore results/corner --no-browser")
@_guarded
def explore(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR|FILE",
            help="Folder of results or spec of a sweep; by default a sigmoid neuron.",
        ),
    ] = None,
    address: Annotated[
        str, _option("Interface to listen on; the default is this machine only.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, _option("Port; by default 5006, or any free one.", min=0, max=65535)
    ] = None,
    no_browser: Annotated[bool, _option("Open no browser.", "--no-browser")] = False,
) -> None:
    """Serve a live map: zoom or pan, and the visible window is swept again."""
    from plateaumap.explore.server import serve, sweep_at
    from plateaumap.explore.view import View

    cache_compilations()
    serve(View.of(sweep_at(source)), address, port, not no_browser, typer.echo)


@app.command(epilog="Example: plateaumap point --loss quadratic --w0 2 --b0 2 --lr 0.15")
@_guarded
def point(
    loss: Annotated[str, _option("Loss, such as quadratic or cross_entropy.")],
    w0: Annotated[float, _option("Initial weight.")],
    b0: Annotated[float, _option("Initial bias.")],
    lr: Annotated[float, _option("Learning rate.")],
    x: Annotated[float, _option("Input.")] = 1.0,
    y: Annotated[float, _option("Target.")] = 0.0,
    activation: Annotated[str, _option("Activation of the neuron.")] = "sigmoid",
    horizon: Annotated[int, _option("Epoch at which the run stops.")] = 1_000_000,
    figure: Annotated[
        Path | None, _option("File for a figure of the curves (.png, .pdf, .svg).")
    ] = None,
) -> None:
    """Show the run of one neuron: its plateau, its steepest epoch, its curve."""
    from plateaumap.queries.point import figure_file, summarize_point

    file = None if figure is None else figure_file(figure)
    cache_compilations()
    values = {"w0": w0, "b0": b0, "lr": lr, "x": x, "y": y}
    summary = summarize_point(loss, values, activation, horizon)
    typer.echo(summary.to_text())
    if file is not None:
        summary.draw(file)
        typer.echo(f"figure written to {file}")


@app.command(epilog="Example: plateaumap derive tanh --format markdown")
@_guarded
def derive(
    activation: Annotated[str, typer.Argument(help="Activation, such as sigmoid or tanh.")],
    format: Annotated[
        Literal["text", "latex", "markdown"], _option("Format of the output.")
    ] = "text",
) -> None:
    """Derive the loss without slowdown for an activation, step by step."""
    from plateaumap.queries.derive.derivation import derive

    typer.echo(getattr(derive(activation), f"to_{format}")())


@app.command(epilog="Example: plateaumap risk --fan-in 30 --scale 1 --lr 0.15 --epochs 200")
@_guarded
def risk(
    fan_in: Annotated[int, _option("Number of inputs of the unit.")],
    lr: Annotated[float, _option("Learning rate.")],
    epochs: Annotated[int, _option("Length that the plateau exceeds.", min=1)],
    loss: Annotated[str, _option("Loss, such as quadratic.")] = "quadratic",
    activation: Annotated[str, _option("Activation of the unit.")] = "sigmoid",
    weights: Annotated[
        str, _option("normal, uniform, or {lecun,he,glorot}_{normal,uniform}.")
    ] = "normal",
    scale: Annotated[
        float | None, _option("Standard deviation of normal, half width of uniform.")
    ] = None,
    fan_out: Annotated[
        int | None, _option("Number of units of the next layer, for glorot.")
    ] = None,
    bias_scale: Annotated[float, _option("Scale of the bias.")] = 0.0,
    input_rms: Annotated[float, _option("Root mean square of the inputs.")] = 1.0,
    y: Annotated[float, _option("Target.")] = 0.0,
    slope: Annotated[float, _option("Factor in front of the pre-activation.")] = 1.0,
) -> None:
    """Show the probability that a randomly initialised unit is stuck on its plateau."""
    from plateaumap.neuron.initialisation import Initialisation
    from plateaumap.queries.risk import risk

    cache_compilations()
    unit = Initialisation.named(weights, fan_in, scale, fan_out, input_rms, bias_scale)
    typer.echo(risk(unit, lr, epochs, loss, activation, y, slope).to_text())


def cache_compilations() -> None:
    """Keep what JAX compiles on disk, so that the next process does not compile it again.

    Only the program does this; importing the library changes no setting. A cache that is already
    set, such as by JAX_COMPILATION_CACHE_DIR, stays in place.
    """
    import jax

    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    jax.config.update("jax_compilation_cache_dir", str(Path(base) / "plateaumap" / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
