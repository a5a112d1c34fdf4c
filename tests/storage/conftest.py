import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.storage.small_sweep import Case, small_sweep


@pytest.fixture
def case() -> Case:
    return small_sweep()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results" / "small"


@pytest.fixture
def no_space(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make every write to a file of that name fail as on a full disk."""

    def fill(name: str) -> None:
        replace = Path.replace

        def refuse(self: Path, target: Path) -> Path:
            if target.name.startswith(name):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", refuse)

    return fill
