"""What is answered below `/preview`, and to whom."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from edge.frames import Frame
from edge.guard import Guard
from edge.metrics import Figures, Metrics
from edge.preview.pages import ANSWERS, HEADERS, MOST_VIEWERS, PICTURES_SHARE, Preview
from edge.preview.view import KEEP, View
from edge.settings import MetricsSettings
from edge.web import Answer, Request
from tests.parts.samples import LABELS
from tests.parts.schema import validate_preview

TOKEN = "a long random text"


class Node:
    """A preview of two cameras, and its visitors."""

    def __init__(self, aggregate: bool = False, token: str | None = None) -> None:
        self.now = 1000.0
        self.metrics = Metrics("hall", "1")
        self.preview = Preview("hall", LABELS, aggregate, self.metrics, clock=lambda: self.now, work=lambda: 0.0)
        self.guard = Guard(MetricsSettings.model_validate({"token": token}), clock=lambda: self.now)
        self.door, self.yard = (self._camera(name) for name in ("door", "yard"))

    def get(self, path: str, query: str = "", method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
        named = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
        answer = self.preview.answer(Request(method, path, query, named, body), self.guard)
        assert answer is not None
        return answer

    def state(self, viewer: str = "one") -> dict[str, Any]:
        answer = self.get("/preview/state", f"viewer={viewer}")
        assert answer.status == 200, answer.body
        found: dict[str, Any] = json.loads(answer.body)
        validate_preview(found)
        return found

    def frame(self, view: View) -> None:
        view.see(Frame(np.full((48, 64, 3), 90, np.uint8), self.now, 0.0, self.now), (), LABELS)

    def _camera(self, name: str) -> View:
        view = self.preview.add(name, (), (), lambda: Figures(3, 2, {"replaced": 1}))
        view.status("online", "", paused=False)
        return view


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.mark.parametrize("path", ["/", "/metrics", "/previews", "/Preview", "preview", ""])
def test_other_pages_are_left_to_others(node: Node, path: str) -> None:
    assert node.preview.answer(Request("GET", path), node.guard) is None


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/preview", "text/html"),
        ("/preview/page.js", "text/javascript"),
        ("/preview/page.css", "text/css"),
        ("/preview/icon.svg", "image/svg"),
        ("/preview/state", "application/json"),
    ],
)
def test_page_and_its_parts(node: Node, path: str, kind: str) -> None:
    answer = node.get(path)
    assert answer.status == 200
    assert answer.kind.startswith(kind)
    assert set(HEADERS) <= set(answer.headers)


def test_page_asks_nobody_else_and_has_nothing_inside_that_its_policy_forbids(node: Node) -> None:
    for path in ("/preview", "/preview/page.js", "/preview/page.css", "/preview/login"):
        text = node.get(path).body.decode()
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path
    page = node.get("/preview").body.decode()
    assert not re.search(r"<script>|<style|style=|\son\w+=", page)
    assert '<meta name="viewport" content="width=device-width' in page


def test_state_of_each_camera_in_order(node: Node) -> None:
    state = node.state()
    assert [camera["name"] for camera in state["cameras"]] == ["door", "yard"]
    assert [name for name, _ in state["emotions"]] == list(LABELS)
    node.preview.keep(["yard"])
    node.now += 1
    assert [camera["name"] for camera in node.state()["cameras"]] == ["yard"]


def test_picture_of_a_camera_that_is_looked_at(node: Node) -> None:
    assert node.get("/preview/camera/door.jpg").status == 404
    node.state()
    node.frame(node.door)
    answer = node.get("/preview/camera/door.jpg", "7")
    assert (answer.status, answer.kind, answer.body[:2]) == (200, "image/jpeg", b"\xff\xd8")
    assert ("Cache-Control", "no-store") in answer.header_lines()
    assert node.get("/preview/camera/yard.jpg").status == 404, "no frame yet"
    assert node.metrics.registry.get_sample_value("emotion_edge_preview_pictures_total") == 1


@pytest.mark.parametrize(
    "path",
    [
        "/preview/camera/",
        "/preview/camera/hall.jpg",
        "/preview/camera/door.png",
        "/preview/camera/door.jpg\x00",
        "/preview/camera/../../metrics",
        "/preview/../edge/settings.py",
        "/preview/page.html",
        "/preview/pages.py",
        "/preview//page.js",
    ],
)
def test_nothing_else_is_there(node: Node, path: str) -> None:
    assert node.get(path).status == 404


def test_of_aggregates_the_page_has_neither_pictures_nor_faces() -> None:
    node = Node(aggregate=True)
    node.state()
    node.frame(node.door)
    node.now += 1
    state = node.state()
    assert state["emotions"] == []
    assert all("faces" not in camera and "picture" not in camera for camera in state["cameras"])
    assert node.get("/preview/camera/door.jpg").status == 404


def test_state_is_made_once_for_all_who_ask_at_once(node: Node) -> None:
    first = node.state()
    node.door.status("offline", "refused", paused=False)
    assert node.state("two") == first
    node.now += 0.2
    assert node.state()["cameras"][0]["state"] == "offline"


def test_pages_share_the_looks_and_only_so_many_are_let_in(node: Node) -> None:
    assert node.state("v0")["wait"] == 0.25
    for number in range(1, MOST_VIEWERS):
        node.now += 0.2
        waits = node.state(f"v{number}")["wait"]
    assert waits == MOST_VIEWERS * 0.25
    assert node.preview.viewers() == MOST_VIEWERS
    assert node.metrics.registry.get_sample_value("emotion_edge_preview_viewers") == MOST_VIEWERS
    full = node.get("/preview/state", "viewer=another")
    assert (full.status, full.body) == (503, b"8 pages are open already\n")
    node.state("v3")
    node.now += KEEP - 0.1
    node.state("v3")
    node.now += 0.2
    assert node.preview.viewers() == 1, "the others were closed"
    node.state("another")


def test_no_more_answers_than_so_many_a_second(node: Node) -> None:
    answers = [node.get("/preview/camera/door.jpg").status for _ in range(ANSWERS + 5)]
    assert answers == [404] * ANSWERS + [429] * 5
    node.now += 1
    node.state()


def test_cameras_share_the_time_for_pictures(node: Node) -> None:
    assert node.preview._share() == PICTURES_SHARE / 2


def test_only_what_is_meant_to_be_asked_is_answered(node: Node) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
        assert node.get("/preview", method=method).status == 405
        assert node.get("/preview/state", method=method).status == 405
    assert node.get("/preview/login", method="PUT").status in (303, 405)
    slash = node.get("/preview/")
    assert (slash.status, dict(slash.headers)["Location"]) == (308, "../preview")


def test_other_names_and_other_sites_get_nothing(node: Node) -> None:
    assert node.get("/preview/state", host="evil.example:9464").status == 403
    assert node.get("/preview/camera/door.jpg", sec_fetch_site="cross-site", sec_fetch_mode="no-cors").status == 403
    assert node.get("/preview", host="localhost:9464").status == 200


def test_where_a_token_is_wanted_there_is_a_login() -> None:
    node = Node(token=TOKEN)
    form = node.get("/preview")
    assert form.status == 401
    assert 'action="preview/login"' in form.body.decode()
    for path in ("/preview/state", "/preview/camera/door.jpg", "/preview/nothing"):
        assert node.get(path).status == 401
    assert node.get("/preview/state", query=f"token={TOKEN}&viewer=x").status == 401, "never a token in the address"
    assert node.get("/preview/state", authorization=f"Bearer {TOKEN}").status == 200
    assert node.get("/preview/page.css").status == 200, "the form's"

    wrong = node.get("/preview/login", method="POST", body=b"token=wrong")
    assert wrong.status == 401
    assert 'action="login"' in wrong.body.decode()
    assert "This is not the token" in wrong.body.decode()
    assert not [value for name, value in wrong.headers if name == "Set-Cookie"]

    answer = node.get(
        "/preview/login", method="POST", body=b"token=a+long%20random+text", origin="http://pi", host="pi"
    )
    headers = dict(answer.headers)
    assert (answer.status, headers["Location"]) == (303, "../preview")
    cookie, *flags = headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict"} <= set(flags)
    assert TOKEN not in headers["Set-Cookie"]
    assert node.get("/preview/state", cookie=cookie).status == 200
    assert node.get("/preview", cookie=cookie).status == 200
    assert node.get("/preview/state", cookie=cookie + "x").status == 401


def test_login_from_another_site_is_refused() -> None:
    node = Node(token=TOKEN)
    body = b"token=a+long+random+text"
    assert node.get("/preview/login", method="POST", body=body, origin="http://evil.example", host="pi").status == 403


def test_without_a_token_there_is_no_login(node: Node) -> None:
    for method in ("GET", "POST"):
        answer = node.get("/preview/login", method=method, body=b"token=")
        assert (answer.status, dict(answer.headers)["Location"]) == (303, "../preview")
