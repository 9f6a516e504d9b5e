"""A real browser, without a window: pages are looked at as a reader sees them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class View:
    """An open page and what came with it.

    Attributes:
        page: playwright's page.
        errors: what the page wrote to the console as an error, and scripts that failed.
        requests: every address that it asked for, its own included.
    """

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def heard(self, message: Any) -> None:
        """Keep what the page writes to the console as an error."""
        if message.type == "error":
            self.errors.append(message.text)


class Browser:
    """Chromium, started on entry and gone on exit."""

    def __enter__(self) -> Browser:
        from playwright.sync_api import sync_playwright

        program = next(filter(None, map(shutil.which, NAMES)), None)
        assert program, f"none of {', '.join(NAMES)} is installed: apt-get install chromium"
        self._playwright = sync_playwright().start()
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        self._browser = self._playwright.chromium.launch(executable_path=program, args=arguments)
        return self

    def __exit__(self, *_: object) -> None:
        self._browser.close()
        self._playwright.stop()

    @contextmanager
    def view(
        self, address: str | Path, width: int = 1280, scheme: str = "light", offline: bool = True, rest: bool = True
    ) -> Iterator[View]:
        """Open a page, without a network unless it is asked for; wait until it `rest`s, which not every page does."""
        context: Any = self._browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,  # type: ignore[arg-type]
            offline=offline,
        )
        view = View(context.new_page())
        view.page.on("console", view.heard)
        view.page.on("pageerror", lambda error: view.errors.append(str(error)))
        view.page.on("request", lambda request: view.requests.append(request.url))
        view.page.goto(address.resolve().as_uri() if isinstance(address, Path) else address)
        view.page.wait_for_load_state("networkidle" if rest else "load")
        yield view
        context.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for the tests of a module: with playwright's loop in it a thread can run no other."""
    with Browser() as started:
        yield started
