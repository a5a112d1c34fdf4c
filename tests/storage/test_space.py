from collections import namedtuple
from pathlib import Path

import pytest
from tests.storage.small_sweep import Case

from plateaumap.storage import space
from plateaumap.storage.errors import StorageError


def test_a_sweep_larger_than_the_disk_is_refused_with_both_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def usage(path: Path) -> tuple[int, int, int]:
        measured.append(path)
        return namedtuple("Usage", "total used free")(10**12, 0, 5_000_000)

    monkeypatch.setattr(space.shutil, "disk_usage", usage)
    target = tmp_path / "not" / "there" / "yet"
    space.check_space(target, 5_000_000)
    with pytest.raises(StorageError) as caught:
        space.check_space(target, 12_345_678_901)
    assert str(caught.value) == (
        f"this sweep would write about 12.3 GB to {target}, where 5.0 MB are free; "
        "choose another disk or a smaller sweep"
    )
    assert measured == [tmp_path, tmp_path]
    assert not (tmp_path / "not").exists()


def test_no_disk_holds_1e18_rows(case: Case, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"this sweep would write about .* EB"):
        space.check_space(tmp_path, space.estimate_bytes(case.columns, 10**18))


def test_the_estimate_grows_with_rows_columns_and_parts(case: Case) -> None:
    size = space.estimate_bytes
    assert size(case.columns, 2_000_000) > 1.9 * size(case.columns, 1_000_000)
    assert size(case.columns, 10**6) > size(case.columns[:5], 10**6)
    assert size(case.columns, 10**6, parts=8) > size(case.columns, 10**6, parts=1)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_950, "1.0 MB"), (1.5e21, "1,500.0 EB")],
)
def test_bytes_in_words(count: float, text: str) -> None:
    assert space.format_bytes(count) == text
