"""The report, looked at in a real browser: one file, everything in it, readable on a phone."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.parts.trainer_faces import draw_ck48, draw_ferplus
from tests.parts.trainer_models import Files, describe, write_model, write_peer
from trainer.cli import main
from trainer.measuring.bootstrap import Interval
from trainer.pages import plots

SECTIONS = ["Summary", "Protocols", "Peers", "Training", "Classes", "Confusion", "Calibration", "Mistakes", "Model"]
EPOCHS = [{"epoch": n, "loss": 2 / n, "validation_accuracy": 0.9 - abs(n - 4) / 10} for n in range(1, 7)]


@dataclass(frozen=True)
class Reported:
    data: Path
    files: Files
    peer: tuple[object, ...]
    page: Path
    found: Any
    said: str


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", *(str(argument) for argument in arguments)])


def written(folder: Path, *more: object) -> Reported:
    """Evaluate a model that errs at times, with a peer, into a report."""
    import numpy as np

    data = draw_ck48(draw_ferplus(folder / "data", each=(1, 6, 1)))
    files = write_model(folder, epochs=5)
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in EPOCHS))
    (folder / "config.json").write_text('{"name": "tiny <b>", "seed": 5}')
    peer = write_peer(folder / "flat.tflite", 48, np.eye(8, dtype=np.float32)[1:2])
    described = ("--peer", peer, "--peer-description", describe(folder / "peer.yaml", peer))
    page = folder / "pages" / "report.html"
    result = invoke(files.model, "--float", files.twin, "--data", data, *described, "--json", "--report", page, *more)
    assert result.exit_code == 0, result.output
    return Reported(data, files, described, page, json.loads(result.stdout), result.stderr)


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> Reported:
    return written(tmp_path_factory.mktemp("reported"))


@pytest.fixture(scope="module")
def with_faces(reported):
    page = reported.page.with_name("faces.html")
    common = (reported.files.model, "--data", reported.data)
    result = invoke(*common, "--report", page, "--with-faces", "--run", reported.files.model.parent)
    assert result.exit_code == 0, result.output
    return page


def cells(view, caption: str) -> dict[str, list[str]]:
    """The rows of the table with that caption, or with the first that begins so, by their first cell."""
    rows = view.page.evaluate(
        """start => {
            const tables = [...document.querySelectorAll('table')].filter(table => table.caption)
            const table = tables.find(table => table.caption.textContent === start)
                ?? tables.find(table => table.caption.textContent.startsWith(start))
            return [...table.querySelectorAll('tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))
        }""",
        caption,
    )
    return {first: rest for first, *rest in rows}


def percent(value: float, interval: list[float]) -> str:
    return f"{100 * value:.1f} ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})"


def test_page_loads_nothing_and_complains_of_nothing(reported, browser):
    with browser.view(reported.page) as view:
        assert view.errors == []
        assert view.requests == [reported.page.as_uri()]
        assert [each.inner_text() for each in view.page.query_selector_all("h2")] == SECTIONS
        assert view.page.title().startswith("tiny ")
        links = [each.get_attribute("href") for each in view.page.query_selector_all("nav a")]
        assert all(view.page.query_selector(link) for link in links)
        assert len(links) == len(SECTIONS)
    assert str(reported.page) in reported.said


def test_every_picture_has_a_size(reported, with_faces, browser):
    for page, pictures in ((reported.page, 7), (with_faces, 7)):
        with browser.view(page) as view:
            for place, details in enumerate(view.page.query_selector_all("details")):
                details.evaluate("each => each.open = true")
                assert place < 100
            boxes = [each.bounding_box() for each in view.page.query_selector_all("svg")]
            assert len(boxes) == pictures
            assert all(box["width"] > 250 and box["height"] > 100 for box in boxes), boxes
            assert all(each.get_attribute("aria-label") for each in view.page.query_selector_all("svg"))


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(reported, with_faces, browser, width):
    for page in (reported.page, with_faces):
        with browser.view(page, width=width) as view:
            view.page.evaluate("() => document.querySelectorAll('details').forEach(each => each.open = true)")
            wide, screen = view.page.evaluate(
                "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
            )
            assert wide <= screen == width


def test_page_follows_the_readers_light_or_dark(reported, browser):
    grounds = {}
    for scheme in ("light", "dark"):
        with browser.view(reported.page, scheme=scheme) as view:
            look = "() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
            ground, ink = ([int(n) for n in re.findall(r"\d+", each)] for each in view.page.evaluate(look))
            grounds[scheme] = sum(ground)
            assert abs(sum(ground) - sum(ink)) > 400  # readable
            marks = "() => getComputedStyle(document.querySelector('svg text')).fill"
            assert [int(n) for n in re.findall(r"\d+", view.page.evaluate(marks))] == ink
    assert grounds["light"] > 600 > 200 > grounds["dark"]


def test_figures_are_those_of_the_json(reported, browser):
    found = reported.found
    columns = [found["int8"], found["float"], found["peers"]["flat"]["figures"]]
    with browser.view(reported.page) as view:
        for key, caption in (("accuracy", "Accuracy in per cent"), ("macro_f1", "Macro-F1 in per cent")):
            shown = cells(view, caption)
            assert list(shown) == list(found["int8"])
            for protocol, (n, *values) in shown.items():
                assert n == str(found["int8"][protocol]["n"])
                assert values == [percent(by[protocol][key], by[protocol]["intervals"][key]) for by in columns]
        for protocol, (accuracy, macro) in cells(view, "int8 less flat").items():
            for text, key in ((accuracy, "accuracy"), (macro, "macro_f1")):
                difference = found["comparison"]["flat"][protocol][key]
                assert text.startswith(f"{100 * difference['difference']:+.1f} (")
                assert text.endswith(difference["verdict"])
        confusion = cells(view, "FER+ 8, int8")
        for label, counts in zip(found["labels"], found["int8"]["FER+ 8"]["confusion"], strict=False):
            assert [int(cell.replace("·", "0")) for cell in confusion[label]] == counts
        classes = cells(view, "FER+ 8, int8, in per cent")
        for label, row in found["int8"]["FER+ 8"]["per_class"].items():
            values = (f"{100 * row[key]:.1f}" for key in ("precision", "recall", "f1"))
            assert classes[label] == [str(row["support"]), *values]
        assert classes["weighted"][-1] == f"{100 * found['int8']['FER+ 8']['weighted_f1']:.1f}"
        large = dict(zip(*(view.page.eval_on_selector_all(f".cards {tag}", "all => all.map(each => each.textContent)")
                           for tag in ("dt", "dd:not(.note)")), strict=True))  # fmt: skip
        assert large["Accuracy, FER+ 8"] == f"{100 * found['int8']['FER+ 8']['accuracy']:.1f} %"
        assert large["Calibration error"] == f"{found['ece']:.3f}"
        assert large["Time a face"] == f"{found['ms']:.2f} ms"
        text = view.page.inner_text("body")
        assert f"int8 takes {found['ms_ratio']:.2f} × as long" in text
        assert "epoch 4: 90" in view.page.text_content("body")


def test_command_can_be_typed_again(reported, browser):
    with browser.view(reported.page) as view:
        command = view.page.inner_text("pre")
    model = reported.files.model
    assert command.startswith(f"emotion-trainer evaluate {model} --float {reported.files.twin} --peer ")
    assert command.endswith(f"--json --report {reported.page} --data {reported.data}")


def test_mistakes_are_named_and_no_face_is_in_the_file(reported, browser):
    found = reported.found["int8"]["FER+ 8"]
    wrong = found["n"] - sum(found["confusion"][i][i] for i in range(8))
    assert wrong > 0
    with browser.view(reported.page) as view:
        section = view.page.locator("section", has=view.page.locator("h2", has_text="Mistakes"))
        assert f"{wrong} of 48 answers" in section.inner_text()
        rows = section.locator("tbody tr").all_inner_texts()
        assert len(rows) == min(wrong, 48)
        for row in rows:
            name, truth, answer, probability = row.split("\t")
            assert name.startswith("fer")
            assert truth != answer
            assert probability.endswith("%")
        assert view.page.query_selector("img") is None
    content = reported.page.read_text()
    assert "data:image" not in content
    assert "<image" not in content


def test_with_faces_the_gallery_shows_them(with_faces, browser):
    with browser.view(with_faces) as view:
        shown = view.page.eval_on_selector_all(".gallery img", "all => all.map(each => [each.naturalWidth, each.alt])")
        assert shown
        assert all(size == 48 and name.startswith("fer") for size, name in shown)
        assert view.errors == []
        assert view.requests[0] == with_faces.as_uri()
        assert all(request.startswith("data:") for request in view.requests[1:])


def test_what_comes_from_files_is_not_markup(reported, browser):
    with browser.view(reported.page) as view:
        view.page.evaluate("() => document.querySelectorAll('details').forEach(each => each.open = true)")
        assert '"name": "tiny <b>"' in view.page.inner_text("body")


def test_card_is_shown_if_it_is_of_this_file(reported, tmp_path, browser):
    from trainer.pages import page
    from trainer.pages.report import CARD

    shown = page.markdown("# Card\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n![x](https://example.com/x.png) <script>")
    assert "<h3>Card</h3>" in shown
    assert '<div class="scroll"><table>' in shown
    assert "<img" not in shown
    assert "<script" not in shown
    folder = reported.files.model.parent
    for content, expected in (("# Mine\n\n" + reported.found["sha256"], "Mine"), ("# Other", "is left out")):
        (folder / CARD).write_text(content)
        path = tmp_path / "report.html"
        result = invoke(reported.files.model, "--data", reported.data, "--report", path)
        assert result.exit_code == 0, result.output
        with browser.view(path) as view:
            model = view.page.locator("section", has=view.page.locator("h2", has_text="Model")).inner_text()
        assert expected in model
        assert ("Other" in model) is False


@pytest.fixture
def figures(monkeypatch):
    """Plots come as figures, before they are written as SVG."""
    monkeypatch.setattr(plots, "_svg", lambda figure, _: figure)


@pytest.mark.usefixtures("figures")
@pytest.mark.parametrize("networks", [1, 2, 4])
def test_intervals_of_one_protocol_stay_off_the_frame(networks):
    found = {f"network {number}": [(0.5, Interval(0.4, 0.6))] for number in range(networks)}
    (axes,) = plots.interval_bars(["all faces"], found, "Accuracy").axes
    low, high = sorted(axes.get_ylim())
    heights = [float(height) for line in axes.lines for height in line.get_ydata()]
    assert heights
    assert all(low + 0.1 < height < high - 0.1 for height in heights)


@pytest.mark.usefixtures("figures")
@pytest.mark.parametrize(("best", "side"), [(0, "left"), (2, "right")])
def test_best_epoch_is_named_with_its_unit_above_the_curve(best, side):
    values = [30.0, 31.0, 32.0]
    values[best] = 36.734
    (axes,) = plots.curve([1, 2, 3], values, "validation, per cent", " %", best).axes
    (label,) = axes.texts
    assert label.get_text() == f"epoch {best + 1}: 36.73 %"
    assert label.get_ha() == side  # it ends within the plot
    assert label.xyann[1] > 0
    assert all(tick == int(tick) for tick in axes.get_xticks())


def test_report_replaces_the_old_one_or_leaves_it(reported, tmp_path):
    common = (reported.files.model, "--data", reported.data, "--report")
    closed = tmp_path / "file"
    closed.write_text("no folder")
    looks = tmp_path / "looks.jsonl"
    for more in ((), ("--split", "test", "--looks", looks)):
        result = invoke(*common, closed / "report.html", *more)
        assert result.exit_code == 2
        assert "report.html: Not a directory; choose another folder" in result.stderr
        assert result.stdout == ""  # nothing is measured, and no look at test data is recorded
        assert not looks.exists()
    result = invoke(*common, tmp_path / "report.html", "--run", tmp_path / "nowhere")
    assert result.exit_code == 2
    assert "name the folder of a training with --run" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
