"""The preview of a running daemon, in a real browser."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from edge.demo import CLIP
from edge.preview.pages import MOST_VIEWERS, PICTURES_SHARE, STATE_SHARE
from edge.preview.view import PICTURE_INTERVAL, WORDS
from tests.parts import HOST, eventually, free_port
from tests.parts.browser import Browser, View
from tests.parts.daemon import Daemon
from tests.parts.samples import LABELS
from tests.parts.schema import validate_preview
from tests.parts.settings import settings_for

TOKEN = "a-long-random-text"
PHONE = 360


def settings(**more: Any) -> dict[str, Any]:
    """Settings of a camera that shows the demo's clip for ever, and of one at whose address nobody listens."""
    cameras: dict[str, Any] = {
        "door": {"source": str(CLIP), "loop": True},
        "garden": {"source": f"rtsp://{HOST}:{free_port()}/stream"},
    }
    return {**settings_for(None, **cameras), "preview": {"enabled": True}, **more}


def card(view: View, name: str) -> Any:
    return view.page.locator("article", has=view.page.locator(".name", has_text=name))


def pixels(view: View, name: str) -> str:
    """Return what the picture of a camera shows, as text that is another for another picture."""
    return str(
        card(view, name)
        .locator("img")
        .evaluate(
            """(image) => {
                const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 48 });
                canvas.getContext("2d").drawImage(image, 0, 0, 64, 48);
                return canvas.toDataURL();
            }"""
        )
    )


#: What the page says of a camera's first face, read at once: a face can leave between two looks.
FACE = """(card) => {
    const face = card.querySelector(".face");
    const texts = (part) => [...face.querySelectorAll(part)].map((each) => each.textContent);
    const widths = () => [...face.querySelectorAll(".fill")].map((bar) => parseFloat(bar.style.width));
    const parts = () => ({ labels: texts(".label"), shares: texts(".value"), emotion: texts(".emotion")[0] });
    return face && { ...parts(), widths: widths() };
}"""


@pytest.fixture
def daemon(start_daemon: Callable[..., Daemon]) -> Daemon:
    return start_daemon(settings())


def test_page_shows_what_there_is_and_asks_nobody_else(daemon: Daemon, browser: Browser) -> None:
    with browser.view(f"{daemon.address}/preview", offline=False, rest=False) as view:
        door, garden = card(view, "door"), card(view, "garden")
        door.locator(".face").first.wait_for(timeout=30_000)
        assert view.page.locator("#node").inner_text() == "test"
        # The picture moves.
        for _ in range(3):
            before = pixels(view, "door")
            eventually(lambda before=before: pixels(view, "door") != before, 20, "moving picture")  # type: ignore[misc]
        # A face with its bars: their widths and the figures beside them are the probabilities.
        face = eventually(lambda: door.evaluate(FACE), 30, "face")
        assert face["labels"] == list(LABELS)
        shares = [int(text.removesuffix(" %")) for text in face["shares"]]
        assert 90 <= sum(shares) <= 110
        assert sum(face["widths"]) == pytest.approx(100, abs=1)
        assert face["emotion"] in LABELS
        # A timeline, and figures.
        eventually(door.locator(".timeline rect").count, 20, "timeline")
        # What was shown for less than a second is drawn, but not said.
        timeline = door.locator(".timeline svg")
        eventually(lambda: any(label in timeline.get_attribute("aria-label") for label in LABELS), 30, "words for it")
        eventually(lambda: _rate(door, "analysed") > 0, 30, "rates")
        assert _figure(door, "age").endswith(" ms")
        # A camera that is not there, in words.
        assert garden.locator(".words").inner_text() == WORDS["refused"]
        assert garden.locator(".state").inner_text().startswith("offline")
        assert not garden.locator("img").is_visible()
        hosts = {urlsplit(address).netloc for address in view.requests}
        assert hosts == {urlsplit(daemon.address).netloc}
        assert not [error for error in view.errors if "favicon" not in error]


def _figure(camera: Any, name: str) -> str:
    return str(camera.locator(".figures div", has=camera.page.locator("dt", has_text=name)).locator("dd").inner_text())


def _rate(camera: Any, name: str) -> float:
    """Return a rate that the page shows, 0 if there is none yet."""
    text = _figure(camera, name)
    return float(text.removesuffix("/s")) if text.endswith("/s") else 0.0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone(daemon: Daemon, browser: Browser, scheme: str) -> None:
    with browser.view(f"{daemon.address}/preview", width=PHONE, scheme=scheme, offline=False, rest=False) as view:
        card(view, "door").locator(".face").first.wait_for(timeout=30_000)
        size = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        wide, screen = view.page.evaluate(size)
        assert wide <= screen == PHONE
        box = card(view, "door").locator("img").bounding_box()
        assert box["width"] > 0.8 * PHONE
        ground = view.page.evaluate("getComputedStyle(document.body).backgroundColor")
        light = sum(int(part) for part in ground[4:-1].split(","))
        assert (light > 3 * 128) is (scheme == "light")


def test_page_that_nobody_sees_or_that_is_closed_costs_nothing(daemon: Daemon, browser: Browser) -> None:
    def pictures() -> float:
        return daemon.value("emotion_edge_preview_pictures_total")

    def resting() -> bool:
        """Tell whether a while of frames brings no picture."""
        before, frames = pictures(), daemon.value("emotion_edge_frames_analysed_total")
        eventually(lambda: daemon.value("emotion_edge_frames_analysed_total") > frames + 15, 20, "frames")
        return pictures() == before

    assert pictures() == 0, "before anybody looks"
    with browser.view(f"{daemon.address}/preview", offline=False, rest=False) as view:
        eventually(lambda: pictures() > 3, 30, "pictures")
        assert daemon.value("emotion_edge_preview_viewers") == 1
        # As the browser says it of a page in the background.
        view.page.evaluate(
            """() => {
                Object.defineProperty(document, "hidden", { value: true, configurable: true });
                document.dispatchEvent(new Event("visibilitychange"));
            }"""
        )
        eventually(resting, 20, "end of pictures")
        asked = len(view.requests)
        assert resting()
        assert len(view.requests) == asked
        view.page.evaluate('() => { delete document.hidden; document.dispatchEvent(new Event("visibilitychange")); }')
        made = pictures()
        eventually(lambda: pictures() > made, 20, "pictures again")
    eventually(resting, 20, "end of pictures")
    eventually(lambda: daemon.value("emotion_edge_preview_viewers") == 0, 20, "no viewer")
    assert resting()


def test_however_many_ask_and_however_often_it_takes_no_more_than_its_share(
    daemon: Daemon, figure: Callable[[str], None]
) -> None:
    """Twelve clients that wait for nothing: a picture is made once for all, and they take a share at most."""

    def ask(client: int) -> None:
        while time.monotonic() < end or not seen.is_set():
            daemon.get(f"/preview/state?viewer={client}")
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{daemon.address}/preview/camera/door.jpg", timeout=5).close()

    def first() -> bool:
        daemon.get("/preview/state?viewer=0")
        return daemon.get("/preview/camera/door.jpg", read=False)[0] == 200

    began = time.monotonic()
    eventually(first, 30, "first picture")
    end, seen = time.monotonic() + 4, threading.Event()
    clients = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for client in clients:
        client.start()
    try:
        eventually(lambda: daemon.value("emotion_edge_preview_viewers") == MOST_VIEWERS, 30, "viewers")
    finally:
        seen.set()
    for client in clients:
        client.join()
    seconds = daemon.value("emotion_edge_preview_seconds_total")
    pictures = daemon.value("emotion_edge_preview_pictures_total")
    took = time.monotonic() - began
    figure(f"preview asked by 12 clients at once: {pictures:.0f} pictures, {100 * seconds / took:.1f} % of a core")
    assert 0 < pictures <= took / PICTURE_INTERVAL + 1
    longest = 0.1  # that a single picture or state may have taken, the last of which is not paid for yet
    assert seconds <= (PICTURES_SHARE + STATE_SHARE) * took + 3 * longest
    assert daemon.get("/healthz")[0] == 200


def test_daemon_that_has_gone_and_comes_back_is_told_in_words(daemon: Daemon, browser: Browser) -> None:
    with browser.view(f"{daemon.address}/preview", offline=False, rest=False) as view:
        card(view, "door").locator(".face").first.wait_for(timeout=30_000)
        daemon.stop()
        view.page.get_by_text("The daemon does not answer").wait_for(timeout=30_000)
        daemon.start()
        view.page.get_by_text("The daemon does not answer").wait_for(state="hidden", timeout=30_000)
        card(view, "door").locator(".face").first.wait_for(timeout=30_000)


def test_beyond_this_machine_there_is_a_login(start_daemon: Callable[..., Daemon], browser: Browser) -> None:
    config = settings()
    config["metrics"] |= {"host": "0.0.0.0", "token": TOKEN}
    daemon = start_daemon(config)
    with browser.view(f"{daemon.address}/preview", width=PHONE, offline=False) as view:
        page = view.page
        assert page.locator("img").count() == 0
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button").click()
        page.get_by_text("This is not the token").wait_for()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button").click()
        page.locator(".face").first.wait_for(timeout=30_000)
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/preview")
        assert not [address for address in view.requests if TOKEN in address]
        assert page.evaluate("document.cookie") == ""
    assert daemon.get("/preview/state")[0] == 401
    status, text = daemon.get("/preview/state", token=TOKEN)
    assert status == 200
    validate_preview(json.loads(text))


def test_page_of_another_site_gets_nothing(daemon: Daemon, browser: Browser) -> None:
    """Neither by its own address nor by a name of its own that leads to this machine (DNS rebinding)."""
    port = urlsplit(daemon.address).port
    with browser.view(f"{daemon.address}/preview", offline=False, rest=False) as view:
        card(view, "door").locator("img[src]").wait_for(timeout=30_000)
        # Another site, as browsers see it: localhost is not 127.0.0.1.
        other = view.page.context.new_page()
        other.goto(f"http://localhost:{port}/healthz")
        shown = other.evaluate(
            """(address) => new Promise((done) => {
                const image = new Image();
                image.onload = () => done(true);
                image.onerror = () => done(false);
                image.src = address;
            })""",
            f"{daemon.address}/preview/camera/door.jpg",
        )
        assert shown is False
    with socket.create_connection((HOST, port or 0), 10) as line:
        line.sendall(b"GET /preview/state HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        assert line.makefile("rb").read().startswith(b"HTTP/1.1 403")


def test_there_is_no_page_unless_it_is_asked_for(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon(settings(preview={}))
    assert [daemon.get(path)[0] for path in ("/preview", "/preview/state", "/preview/camera/door.jpg")] == [404] * 3


def test_cameras_come_and_go_with_the_settings(daemon: Daemon) -> None:
    config = daemon.config

    def names() -> list[str]:
        with urllib.request.urlopen(f"{daemon.address}/preview/state", timeout=20) as answer:
            state = json.load(answer)
        validate_preview(state)
        return [camera["name"] for camera in state["cameras"]]

    assert names() == ["door", "garden"]
    config["cameras"] = {"yard": config["cameras"].pop("garden"), **config["cameras"]}
    daemon.write_config()
    os.kill(daemon.pid, signal.SIGHUP)
    eventually(lambda: names() == ["yard", "door"], 30, "other cameras", daemon.tail)
