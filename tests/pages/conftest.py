"""One browser and one explorer for all tests of pages.

They belong to this package and not to the session: Playwright leaves an event loop running in its
thread, in which tests elsewhere could not use `asyncio.run`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.pages.browser import browser
from tests.pages.server import EXPLORED, served

from plateaumap.explore.view import View


@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture(scope="package")
def address() -> Iterator[str]:
    with served(View.of(EXPLORED)) as url:
        yield url
