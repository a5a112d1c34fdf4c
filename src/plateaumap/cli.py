"""The command line: parse, build, call, and tell.

Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted (and resumable).
"""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, ParamSpec

import typer

from plateaumap.inputs.errors import PlateaumapError

if TYPE_CHECKING:
    from plateaumap.execution.backend import Backend
    from plateaumap.storage.results import Results
    from plateaumap.sweep.spec import Sweep

INTERRUPTED = 130

app = typer.Typer(
    name="plateaumap",
    help="How long does a neuron sit on its plateau before it learns?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

P = ParamSpec("P")


class BackendName(StrEnum):
    """Where a sweep is evaluated."""

    LOCAL = "local"
    DASK = "dask"


class Format(StrEnum):
    """How a derivation is written."""

    TEXT = "text"
    LATEX = "latex"
    MARKDOWN = "markdown"


Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Change the spec: horizon=5000, axes.w0.num=65."
    ),
]
Out = Annotated[Path | None, typer.Option(help="Folder of results; results/NAME by default.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads; one for each core by default.")]
Force = Annotated[bool, typer.Option(help="Move a folder that holds something else aside.")]
MixVersions = Annotated[
    bool,
    typer.Option(help="Continue, or take over, rows that other versions of the libraries made."),
]
DryRun = Annotated[bool, typer.Option(help="Tell what would be done, and do nothing.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder of results.")]
Where = Annotated[
    BackendName | None,
    typer.Option("--backend", help="local: this process (default). dask: a cluster of processes."),
]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Dask cluster to join; without it one is started here."),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes of the cluster started here; one for each core or GPU."),
]


def main() -> None:
    """Run the command line; the entry point of the `plateaumap` program."""
    prepare_process()
    app()


def prepare_process() -> None:
    """Make what this program writes independent of where it is called from.

    Figures go into files, so a backend that a notebook hands down in MPLBACKEND, and that may not
    even be installed here, is not for this program. A character that the output's encoding lacks
    is written as "?".
    """
    os.environ["MPLBACKEND"] = "agg"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Turn what a user can cause into one message and an exit code."""

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except PlateaumapError as error:
            _stop(str(error), error.exit_code)
        except KeyboardInterrupt:
            _stop("interrupted; what is finished is kept, the same command goes on", INTERRUPTED)
        except BrokenPipeError:
            # Whoever reads us has closed; there is nobody left to tell.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return guarded


def _stop(message: str, code: int) -> NoReturn:
    typer.echo(f"plateaumap: {message}", err=True)
    raise typer.Exit(code)


@app.command()
@_guarded
def run(
    file: Annotated[Path, typer.Argument(help="A .toml spec, or a .py that defines `sweep`.")],
    out: Out = None,
    settings: Setting = None,
    threads: Threads = None,
    force: Force = False,
    dry_run: DryRun = False,
    backend: Where = None,
    scheduler: Scheduler = None,
    workers: Workers = None,
    mix_versions: MixVersions = False,
) -> None:
    """Run a sweep into a folder; run it again to go on where it stopped."""
    from plateaumap.sweep.spec import load_spec

    where = _backend(backend, threads, scheduler, workers)
    _run(load_spec(file), out, settings, where, force, dry_run, mix_versions)


@app.command()
@_guarded
def extend(
    folder: Folder,
    settings: Setting = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the new sweep; beside DIR.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="A .py whose `sweep` has your own losses or experiment.")
    ] = None,
    mix_versions: MixVersions = False,
    threads: Threads = None,
    backend: Where = None,
    scheduler: Scheduler = None,
    workers: Workers = None,
) -> None:
    """Make a new, larger sweep that takes over every row of DIR that is still right in it."""
    from plateaumap.runner.extend import Extension
    from plateaumap.sweep.settings import parse_setting
    from plateaumap.sweep.spec import load_spec

    cache_compilations()
    changes = dict(map(parse_setting, settings or []))
    sweep = None if file is None else load_spec(file)
    extension = Extension(folder, changes, out, sweep, mix_versions)
    results = extension.run(_backend(backend, threads, scheduler, workers))
    typer.echo(f"{extension.taken:,} rows were taken over from {folder}")
    typer.echo(_told(results))


def run_sweep(*sweeps: Sweep, then: Callable[..., object] | None = None) -> None:
    """Make a script of a sweep: read its options from the command line, and run it.

    Args:
        sweeps: what the script defines. Several go into one folder, each under its name.
        then: what to do with the finished results (one argument for each sweep), such as
            drawing them.
    """

    def command(
        out: Out = None,
        settings: Setting = None,
        threads: Threads = None,
        force: Force = False,
        dry_run: DryRun = False,
        backend: Where = None,
        scheduler: Scheduler = None,
        workers: Workers = None,
        mix_versions: MixVersions = False,
    ) -> None:
        where = _backend(backend, threads, scheduler, workers)
        folder = out
        if len(sweeps) > 1 and folder is None:
            folder = Path("results") / Path(sys.argv[0]).stem
        results = [
            _run(
                sweep,
                folder / sweep.name if folder and len(sweeps) > 1 else folder,
                settings,
                where,
                force,
                dry_run,
                mix_versions,
            )
            for sweep in sweeps
        ]
        if then is not None and not dry_run:
            then(*results)

    command.__doc__ = sys.modules["__main__"].__doc__ or f"Run the sweep {sweeps[0].name}."
    script = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    script.command()(_guarded(command))
    prepare_process()
    script()


def _run(
    sweep: Sweep,
    out: Path | None,
    settings: list[str] | None,
    backend: Backend,
    force: bool,
    dry_run: bool,
    mix_versions: bool,
) -> Results | None:
    """Run a sweep and return its results; None after a dry run."""
    from plateaumap.sweep.settings import parse_setting

    cache_compilations()
    if settings:
        sweep = sweep.with_settings(dict(map(parse_setting, settings)))
    folder = out or Path("results") / sweep.name
    if dry_run:
        from plateaumap.runner.estimate import estimate

        typer.echo(estimate(sweep, folder, backend.threads, mix_versions).to_text())
        return None

    from plateaumap.runner.run import run

    results = run(sweep, folder, force=force, backend=backend, mix_versions=mix_versions)
    typer.echo(_told(results))
    return results


def _backend(
    name: BackendName | None, threads: int | None, scheduler: str | None, workers: int | None
) -> Backend:
    from plateaumap.execution.backend import Backend

    where = Backend(name, threads, scheduler, workers, lambda text: typer.echo(text, err=True))
    if where.name == "dask":
        import jax

        # Accelerators are for the workers; a driver that looks at one takes hold of its memory.
        jax.config.update("jax_platforms", "cpu")
    return where


def _told(results: Results) -> str:
    counts = ", ".join(f"{number:,} {status}" for status, number in results.counts().items())
    return f"{results.path}: {results.manifest['plan']['points']:,} points, {counts}"


@app.command()
@_guarded
def info(
    folder: Folder,
    verify: Annotated[bool, typer.Option(help="Read everything against its checksums.")] = False,
) -> None:
    """Tell what a folder of results holds: the sweep, counts by status, provenance."""
    from plateaumap.queries.overview import overview
    from plateaumap.storage.results import open_results

    results = open_results(folder)
    typer.echo(overview(results))
    if verify:
        from plateaumap.storage.verify import find_damages

        damages = find_damages(results.path)
        if damages:
            for damage in damages:
                typer.echo(damage)
            typer.echo("run the sweep again: what is damaged or missing is computed anew")
            raise typer.Exit(1)
        typer.echo("verified: every part is as it was written")


@app.command()
@_guarded
def report(folder: Folder) -> None:
    """Draw the figures of a finished sweep into its folder, and a page with a map to explore."""
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
        typer.echo(f"open {written[-1]} in a browser: one file, with a map that answers clicks")
    else:
        typer.echo("no report.html without bokeh: pip install 'plateaumap[report]'")
    for sentence in findings(results.frame()):
        typer.echo(sentence)


@app.command()
@_guarded
def explore(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR|FILE", help="A folder of results or a spec; else a sigmoid neuron."
        ),
    ] = None,
    address: Annotated[
        str, typer.Option(help="Interface to listen on; only this machine can reach the default.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="5006, or any free one, by default.")
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser.")] = False,
) -> None:
    """Look through a microscope: zoom, and the visible window is swept again at once."""
    from plateaumap.explore.server import serve, sweep_at
    from plateaumap.explore.view import View

    cache_compilations()
    serve(View.of(sweep_at(source)), address, port, not no_browser, typer.echo)


@app.command()
@_guarded
def point(
    loss: Annotated[str, typer.Option(help="A loss, such as quadratic or cross_entropy.")],
    w0: Annotated[float, typer.Option(help="Weight at the start.")],
    b0: Annotated[float, typer.Option(help="Bias at the start.")],
    lr: Annotated[float, typer.Option(help="Learning rate.")],
    x: Annotated[float, typer.Option(help="Input.")] = 1.0,
    y: Annotated[float, typer.Option(help="Target.")] = 0.0,
    activation: Annotated[str, typer.Option(help="Activation of the neuron.")] = "sigmoid",
    horizon: Annotated[int, typer.Option(help="Epochs after which to give up.")] = 1_000_000,
    figure: Annotated[
        Path | None, typer.Option(help="Draw the curves into this file (.png, .pdf, .svg).")
    ] = None,
) -> None:
    """Tell the story of one neuron: its plateau, its steepest epoch, its curve."""
    from plateaumap.queries.point import figure_file, tell

    target = None if figure is None else figure_file(figure)
    cache_compilations()
    values = {"w0": w0, "b0": b0, "lr": lr, "x": x, "y": y}
    story = tell(loss, values, activation, horizon)
    typer.echo(story.to_text())
    if target is not None:
        story.draw(target)
        typer.echo(f"drawn into {target}")


@app.command()
@_guarded
def derive(
    activation: Annotated[str, typer.Argument(help="An activation, such as sigmoid or tanh.")],
    format: Annotated[Format, typer.Option(help="How to write it.")] = Format.TEXT,
) -> None:
    """Derive the loss that does not slow down for an activation, step by step."""
    from plateaumap.queries.derive.derivation import derive

    derivation = derive(activation)
    writers = {
        Format.TEXT: derivation.to_text,
        Format.LATEX: derivation.to_latex,
        Format.MARKDOWN: derivation.to_markdown,
    }
    typer.echo(writers[format]())


@app.command()
@_guarded
def risk(
    fan_in: Annotated[int, typer.Option(help="Inputs of the unit.")],
    lr: Annotated[float, typer.Option(help="Learning rate.")],
    epochs: Annotated[int, typer.Option(min=1, help="Stuck means: for longer than this.")],
    loss: Annotated[str, typer.Option(help="A loss, such as quadratic.")] = "quadratic",
    activation: Annotated[str, typer.Option(help="Activation of the unit.")] = "sigmoid",
    weights: Annotated[
        str, typer.Option(help="normal, uniform, or {lecun,he,glorot}_{normal,uniform}.")
    ] = "normal",
    scale: Annotated[
        float | None, typer.Option(help="Standard deviation or half width of normal or uniform.")
    ] = None,
    fan_out: Annotated[int | None, typer.Option(help="For glorot_normal and _uniform.")] = None,
    bias_scale: Annotated[float, typer.Option(help="As scale, for the bias.")] = 0.0,
    input_rms: Annotated[float, typer.Option(help="Root mean square of the inputs.")] = 1.0,
    y: Annotated[float, typer.Option(help="Target.")] = 0.0,
    slope: Annotated[float, typer.Option(help="Factor in front of the pre-activation.")] = 1.0,
) -> None:
    """Tell how likely a randomly initialised unit is to be stuck on its plateau."""
    from plateaumap.neuron.initialisation import Initialisation
    from plateaumap.queries.risk import risk

    cache_compilations()
    start = Initialisation.named(weights, fan_in, scale, fan_out, input_rms, bias_scale)
    typer.echo(risk(start, lr, epochs, loss, activation, y, slope).to_text())


def cache_compilations() -> None:
    """Keep what JAX compiles on disk, so that the second start need not compile.

    Only the program does so; importing the library changes no setting. Who has told JAX where to
    keep it, such as by JAX_COMPILATION_CACHE_DIR, keeps it there.
    """
    import jax

    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    jax.config.update("jax_compilation_cache_dir", str(Path(base) / "plateaumap" / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
