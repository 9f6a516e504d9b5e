"""Makes one self-contained HTML page out of cards, tables, matrices, plots and pictures; it loads nothing."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from trainer.files import replace_file
from trainer.measuring.metrics import Figures

#: How far the headings of a document are lowered when it becomes a part of a page.
LOWERED = 2


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it, each made by one of the functions here."""

    title: str
    parts: Sequence[Markup]


def write_page(path: Path, title: str, lead: str, sections: Sequence[Section]) -> None:
    """Replace `path` by the page in one step.

    Raises:
        WriteError: it cannot be written; what was there is as it was.
    """
    page = _environment().get_template("page.html.j2").render(title=title, lead=lead, sections=sections)
    replace_file(path, page.encode())


def cards(items: Sequence[tuple[str, str, str]]) -> Markup:
    """Show the most important figures large: name, value, and a note below."""
    return _part("cards", items)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> Markup:
    """Show a table; the first cell of each row names it."""
    return _part("table", header, rows, caption)


def facts(rows: Sequence[tuple[str, str]], caption: str) -> Markup:
    """Show names and what they stand for, however long that is."""
    return _part("facts", rows, caption)


def confusion(figures: Figures, caption: str) -> Markup:
    """Show a confusion matrix: counts, shaded by their share of the true class."""
    shares = figures.confusion / np.maximum(figures.confusion.sum(axis=1, keepdims=True), 1)
    rows = [list(zip(*pair, strict=True)) for pair in zip(figures.confusion.tolist(), shares.tolist(), strict=True)]
    return _part("confusion", figures.labels, rows, caption)


def matrices(parts: Sequence[Markup]) -> Markup:
    """Put parts side by side where there is room."""
    return Markup('<div class="matrices">{}</div>').format(Markup("").join(parts))


def plots(items: Sequence[tuple[str, Markup]]) -> Markup:
    """Show plots of `trainer.pages.plots` side by side where there is room, each with its caption."""
    return _part("plots", items)


def gallery(items: Sequence[tuple[npt.NDArray[np.uint8], str, str, str]]) -> Markup:
    """Show pictures, grey or RGB, each with its file's name, a title and a note."""
    return _part("gallery", [(_address(picture), *texts) for picture, *texts in items])


def text(words: str) -> Markup:
    """Write a paragraph."""
    return _part("text", words)


def code(content: str) -> Markup:
    """Show a command or a file as it is."""
    return _part("code", content)


def folded(title: str, content: Markup) -> Markup:
    """Hide something until its title is clicked."""
    return _part("folded", title, content)


def markdown(content: str) -> Markup:
    """Show a Markdown document without its pictures, which would be loaded from elsewhere."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = parser.parse(content)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1:]) + LOWERED, 6)}"
    page = parser.renderer.render(tokens, parser.options, {})
    return Markup(page.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>"))  # noqa: S704


def _address(picture: npt.NDArray[np.uint8]) -> str:
    """Return a picture as a `data:` address that holds it as PNG."""
    pixels = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else picture
    content = cv2.imencode(".png", pixels)[1].tobytes()
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("trainer"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _part(name: str, *arguments: Any) -> Markup:
    module: Any = _environment().get_template("parts.html.j2").module
    return Markup(getattr(module, name)(*arguments))  # noqa: S704  # rendered with everything escaped
