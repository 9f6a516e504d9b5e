"""What is answered below `/preview`: the page, what it asks for again and again, and the login form."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Sequence
from importlib import resources
from urllib.parse import parse_qs

from edge import __version__
from edge.draw import COLOURS, OTHER
from edge.guard import SESSION, Guard
from edge.metrics import Figures, Metrics
from edge.preview.picture import Allowance
from edge.preview.view import KEEP, View
from edge.web import Answer, Request, said
from edge.zones import Polygon

#: Of one core: what pictures may take, all cameras together, and what the rest that the page is told may take.
PICTURES_SHARE, STATE_SHARE = 0.04, 0.01
#: Pages that may look at once; looks a second, shared among them; and answers a second, whoever asks.
MOST_VIEWERS, LOOKS, ANSWERS = 8, 4.0, 60
#: Seconds that a page waits at most between two looks, so that it goes on counting.
LONGEST_WAIT = 0.8 * KEEP
#: Least seconds between two states.
STATE_INTERVAL = 0.1
#: The page loads nothing from elsewhere, runs nothing but its own script, and stands in no page of others.
HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
)
HTML = "text/html; charset=utf-8"
FILES = {
    "/preview/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/preview/page.css": ("page.css", "text/css; charset=utf-8"),
    "/preview/icon.svg": ("icon.svg", "image/svg+xml"),
}
PICTURE = re.compile(r"/preview/camera/([a-z0-9_-]{1,64})\.jpg")


class Preview:
    """The preview of a node.

    Args:
        node: its name.
        emotions: that the model reads, in its order.
        aggregate: privacy: figures only.
        metrics: counts.
        clock: monotonic seconds.
        work: processor seconds of this thread.

    Attributes:
        emotions: likewise; changed with the model.
    """

    def __init__(
        self,
        node: str,
        emotions: Sequence[str],
        aggregate: bool,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        work: Callable[[], float] = time.thread_time,
    ) -> None:
        self.emotions = emotions
        self._node = node
        self._aggregate = aggregate
        self._metrics = metrics
        self._clock, self._work = clock, work
        self._views: dict[str, View] = {}
        self._lock = threading.Lock()
        self._viewers: dict[str, float] = {}
        self._room, self._counted = float(ANSWERS), clock()
        self._state = b""
        self._allowance = Allowance(lambda: STATE_SHARE, STATE_INTERVAL)
        folder = resources.files(__package__)
        self._page = folder.joinpath("page.html").read_bytes()
        self._form = folder.joinpath("login.html").read_text(encoding="utf-8")
        self._files = {
            path: Answer(200, folder.joinpath(name).read_bytes(), kind, HEADERS) for path, (name, kind) in FILES.items()
        }
        metrics.preview(self.viewers)

    def add(
        self, name: str, masks: Sequence[Polygon], zones: Sequence[Polygon], figures: Callable[[], Figures]
    ) -> View:
        """Show a camera, in place of one of the same name; returns what is to be told of it."""
        view = View(
            name, masks, zones, figures, self._aggregate, self._share, self._drawn, clock=self._clock, work=self._work
        )
        self._views = {**self._views, name: view}
        return view

    def keep(self, names: Sequence[str]) -> None:
        """Show these cameras only, in this order."""
        self._views = {name: self._views[name] for name in names}

    def viewers(self) -> int:
        """Return how many pages are open and seen."""
        now = self._clock()
        return sum(now - seen <= KEEP for seen in list(self._viewers.values()))

    def answer(self, request: Request, guard: Guard) -> Answer | None:
        """Answer a request; none for a path outside of `/preview`."""
        if request.path != "/preview" and not request.path.startswith("/preview/"):
            return None
        if guard.from_another_site(request):
            return said(403, "another site's page cannot ask for this", *HEADERS)
        if not guard.called_by_own_name(request):
            return said(403, "by another name than localhost or 127.0.0.1 this wants metrics.token in the settings")
        if request.path == "/preview/login":
            return self._log_in(request, guard)
        if request.method not in ("GET", "HEAD"):
            return said(405, "only GET", ("Allow", "GET, HEAD"))
        if request.path == "/preview/":
            return said(308, "see /preview", ("Location", "../preview"), *HEADERS)
        if request.path in self._files:
            return self._files[request.path]
        if not guard.has_session(request) and not guard.has_token(request):
            wants = ("WWW-Authenticate", "Bearer")
            if request.path == "/preview":
                return self._login_form(401, "preview/", "", wants)
            return said(401, "wants a login", wants, *HEADERS)
        return self._show(request)

    def _show(self, request: Request) -> Answer:
        if request.path == "/preview":
            return Answer(200, self._page, HTML, HEADERS)
        if not self._may_answer():
            return said(429, "too many requests", ("Retry-After", "1"), *HEADERS)
        if request.path == "/preview/state":
            return self._tell(request)
        found = PICTURE.fullmatch(request.path)
        view = self._views.get(found[1]) if found else None
        picture = view.picture() if view else None
        if picture is None:
            return said(404, "no such page, or no picture", *HEADERS)
        return Answer(200, picture, "image/jpeg", HEADERS)

    def _tell(self, request: Request) -> Answer:
        viewer = parse_qs(request.query).get("viewer", [""])[0][:32]
        with self._lock:
            if not self._counts(viewer):
                return said(503, f"{MOST_VIEWERS} pages are open already", ("Retry-After", "5"), *HEADERS)
            return Answer(200, self._newest_state(), "application/json", HEADERS)

    def _counts(self, viewer: str) -> bool:
        """Count a page among those that look; tells whether there is room for it."""
        now = self._clock()
        self._viewers = {each: seen for each, seen in self._viewers.items() if now - seen <= KEEP}
        if viewer not in self._viewers and len(self._viewers) >= MOST_VIEWERS:
            return False
        self._viewers[viewer] = now
        return True

    def _newest_state(self) -> bytes:
        """Return the state as it is, or as it was a moment ago if that would take too much."""
        began = self._clock()
        if self._allowance.may(began):
            started = self._work()
            self._state = json.dumps(self._describe(), ensure_ascii=False, separators=(",", ":")).encode()
            seconds = self._work() - started
            self._allowance.spent(began, seconds)
            self._metrics.preview_seconds.inc(seconds)
        return self._state

    def _describe(self) -> dict[str, object]:
        views = self._views
        looks = min(LOOKS, 0.8 * ANSWERS / (1 + len(views)))
        colours = [] if self._aggregate else [[name, _hex(COLOURS.get(name, OTHER))] for name in self.emotions]
        return {
            "node": self._node,
            "version": __version__,
            "wait": round(min(max(1, len(self._viewers)) / looks, LONGEST_WAIT), 3),
            "emotions": colours,
            "cameras": [view.describe(self.emotions) for view in views.values()],
        }

    def _log_in(self, request: Request, guard: Guard) -> Answer:
        if not guard.asks:
            return said(303, "no login is wanted", ("Location", "../preview"), *HEADERS)
        if request.method != "POST":
            if request.method not in ("GET", "HEAD"):
                return said(405, "only GET and POST", ("Allow", "GET, HEAD, POST"))
            return self._login_form(200, "", "")
        fields = parse_qs(request.body.decode("utf-8", "replace"))
        session = guard.log_in(request, fields.get("token", [""])[0])
        if session is None:
            return self._login_form(401, "", "This is not the token of the settings.", ("WWW-Authenticate", "Bearer"))
        # Without a path of its own the cookie is for what lies beside the form: /preview, also behind a proxy's prefix.
        cookie = f"{guard.cookie}={session}; Max-Age={SESSION:.0f}; HttpOnly; SameSite=Strict"
        return said(303, "logged in", ("Location", "../preview"), ("Set-Cookie", cookie), *HEADERS)

    def _login_form(self, status: int, base: str, words: str, *headers: tuple[str, str]) -> Answer:
        """Return the form, with `base` from its own address to what lies below `/preview`."""
        form = self._form.replace("{base}", base).replace("{words}", words)
        return Answer(status, form.encode(), HTML, (*headers, *HEADERS))

    def _may_answer(self) -> bool:
        """Tell whether there is room for an answer among those of the last second, and take it."""
        with self._lock:
            now = self._clock()
            self._room = min(ANSWERS, self._room + ANSWERS * (now - self._counted))
            self._counted = now
            if self._room < 1:
                return False
            self._room -= 1
            return True

    def _share(self) -> float:
        return PICTURES_SHARE / max(1, len(self._views))

    def _drawn(self, seconds: float) -> None:
        self._metrics.preview_pictures.inc()
        self._metrics.preview_seconds.inc(seconds)


def _hex(colour: tuple[int, int, int]) -> str:
    blue, green, red = colour
    return f"#{red:02x}{green:02x}{blue:02x}"
