"""Who may read what the HTTP server has to tell."""

from __future__ import annotations

import pytest

from edge.guard import MOST_SESSIONS, SESSION, Guard
from edge.settings import MetricsSettings
from edge.web import Request

TOKEN = "grün/+=%20 long and random"


def guard(token: str | None = TOKEN, host: str = "127.0.0.1", now: list[float] | None = None) -> Guard:
    moment = now or [0.0]
    return Guard(MetricsSettings.model_validate({"host": host, "token": token}), clock=lambda: moment[0])


def request(method: str = "GET", **headers: str) -> Request:
    return Request(method, "/preview", headers={f"HTTP_{name.upper()}": value for name, value in headers.items()})


def on_the_wire(text: str) -> str:
    return text.encode().decode("latin-1")


def test_token_is_wanted_as_it_is() -> None:
    asks = guard()
    assert asks.has_token(request(authorization=on_the_wire(f"Bearer {TOKEN}")))
    assert asks.has_token(request(authorization=on_the_wire(f"bearer  {TOKEN} ")))
    for wrong in ("", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"):
        assert not asks.has_token(request(authorization=on_the_wire(wrong))), wrong


@pytest.mark.parametrize("token", [None, "none"])
def test_without_a_token_everybody_has_it_and_there_is_no_login(token: str | None) -> None:
    open_one = guard(token)
    assert open_one.has_token(request())
    assert [open_one.log_in(request(), text) for text in ("", "none", "None")] == [None] * 3


def test_login_gives_a_cookie_that_holds_for_a_while() -> None:
    now = [0.0]
    asks = guard(now=now)
    session = asks.log_in(request(), TOKEN)
    assert session is not None
    assert TOKEN not in session
    cookie = request(cookie=f"other=1; {asks.cookie}={session}")
    assert asks.has_session(cookie)
    assert not guard().has_session(cookie), "another daemon's login"
    now[0] += SESSION + 1
    assert not asks.has_session(cookie)


def test_wrong_tokens_are_said_once_a_cause_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    asks = guard()
    visitors = [
        Request("GET", "/", headers={"HTTP_AUTHORIZATION": "Bearer hunter2"}, peer=f"10.0.0.{n}") for n in "123"
    ]
    assert not any(asks.has_token(each) for each in visitors)
    assert not any(asks.log_in(each, "hunter3") for each in visitors)
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("http: 10.0.0.1 sent another token")
    assert second.startswith("http: 10.0.0.1 tried to log in")
    assert "hunter" not in caplog.text


def test_who_brings_no_token_or_the_right_one_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    asks = guard()
    assert not asks.has_token(request())
    assert asks.has_token(request(authorization=on_the_wire(f"Bearer {TOKEN}")))
    assert asks.log_in(request(), TOKEN)
    assert guard(None).has_token(request(authorization="Bearer x"))
    assert not caplog.records


@pytest.mark.parametrize("token", ["", "x", TOKEN[:-1], TOKEN + " ", "\udcff\x00"])
def test_wrong_token_gives_no_cookie(token: str) -> None:
    assert guard().log_in(request(), token) is None


@pytest.mark.parametrize(
    "cookie", ["", "x", "=", f"emotion-edge-9464={'a' * 43}", "emotion-edge-9464=", "\x00; ;;=;", '"']
)
def test_other_cookies_are_none(cookie: str) -> None:
    asks = guard()
    asks.log_in(request(), TOKEN)
    assert not asks.has_session(request(cookie=cookie))


def test_old_logins_make_room() -> None:
    asks = guard()
    sessions = [asks.log_in(request(), TOKEN) for _ in range(MOST_SESSIONS + 1)]
    held = [asks.has_session(request(cookie=f"{asks.cookie}={session}")) for session in sessions]
    assert held == [False] + [True] * MOST_SESSIONS


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:9464", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:9464", ""]
)
def test_own_names(host: str) -> None:
    assert guard(None).called_by_own_name(request(host=host))


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9464",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.168.1.4",
        ":",
        "x@localhost",
    ],
)
def test_names_of_others_are_refused_where_no_token_guards(host: str) -> None:
    assert not guard(None).called_by_own_name(request(host=host))
    assert not guard("none").called_by_own_name(request(host=host))
    assert guard().called_by_own_name(request(host=host)), "no page of others has the token"


@pytest.mark.parametrize(
    ("method", "headers", "refused"),
    [
        ("GET", {}, False),
        ("GET", {"sec_fetch_site": "same-origin", "sec_fetch_mode": "cors"}, False),
        ("GET", {"sec_fetch_site": "none", "sec_fetch_mode": "navigate"}, False),
        ("GET", {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}, False),  # a link
        ("GET", {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}, True),  # a picture in another page
        ("GET", {"sec_fetch_site": "same-site", "sec_fetch_mode": "cors"}, True),
        ("POST", {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}, True),  # a form of another page
        ("POST", {"origin": "http://pi.local:9464"}, False),
        ("POST", {"origin": "https://PI.local:9464"}, False),  # behind a proxy with TLS
        ("POST", {"origin": "http://pi.local:9465"}, True),
        ("POST", {"origin": "http://evil.example"}, True),
        ("POST", {"origin": "null"}, True),
    ],
)
def test_pages_of_other_sites_are_refused(method: str, headers: dict[str, str], refused: bool) -> None:
    assert Guard.from_another_site(request(method, host="pi.local:9464", **headers)) is refused
