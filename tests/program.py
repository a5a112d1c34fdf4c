"""The program `plateaumap`, called in this process to save the start of another one."""

import contextlib
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache
from typer.testing import CliRunner

from plateaumap.cli import app

_SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@dataclass(frozen=True)
class Done:
    """The result of a call.

    Attributes:
        code: the exit code.
        output: the text on both streams.
        errors: the text on the error stream.
    """

    code: int
    output: str
    errors: str


def plateaumap(*arguments: object, cwd: Path | None = None) -> Done:
    """Call the program in a folder; an exception that it does not handle is raised here."""
    with contextlib.chdir(cwd or Path.cwd()):
        result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.output, result.stderr)


@contextmanager
def settings_restored(cache: Path) -> Iterator[None]:
    """Let the program keep its compilations in `cache`, and undo its settings afterwards."""
    before = {name: getattr(jax.config, name) for name in _SETTINGS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def heed_interrupts() -> None:
    """Undo what a background job of a shell inherits: that it ignores SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
