"""The HTTP pages."""

import http.client
import os
import socket
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass

import pytest

import edge.http
from edge.http import HttpError, HttpServer
from edge.metrics import Metrics
from edge.preview.pages import Preview
from edge.settings import MetricsSettings
from tests.parts import HOST, accepts, eventually, free_port

TEXT = b"# TYPE a counter\na_total 1\n"


@dataclass
class State:
    alive: bool = True
    ready: bool = True


@pytest.fixture
def state():
    return State()


@pytest.fixture
def ask(state):
    """Ask the server for a page: status, headers, body."""
    settings = MetricsSettings(port=free_port())
    server = HttpServer(settings, lambda: TEXT, lambda: state.alive, lambda: state.ready)
    server.start()

    def get(path, method="GET", data=None, headers=()):
        url = f"http://{HOST}:{settings.port}{path}"
        request = urllib.request.Request(url, method=method, data=data, headers=dict(headers))
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    yield get
    server.stop()


def test_a_page_of_another_site_gets_no_metrics(ask):
    assert ask("/metrics", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"})[0] == 403
    assert ask("/metrics", headers={"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"})[0] == 200


def test_metrics_come_as_prometheus_text(ask):
    status, headers, body = ask("/metrics")
    assert (status, body) == (200, TEXT)
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert headers["Cache-Control"] == "no-store"
    assert "Server" not in headers


@pytest.mark.parametrize(
    ("page", "name", "good", "bad"),
    [("/healthz", "alive", b"ok\n", b"no progress\n"), ("/readyz", "ready", b"ready\n", b"not ready\n")],
)
def test_health_and_readiness(ask, state, page, name, good, bad):
    assert ask(page)[::2] == (200, good)
    setattr(state, name, False)
    assert ask(page)[::2] == (503, bad)
    other = "/readyz" if page == "/healthz" else "/healthz"
    assert ask(other)[0] == 200
    setattr(state, name, True)
    assert ask(page)[0] == 200


@pytest.mark.parametrize("path", ["/", "/metrics/", "/Metrics", "/healthz/../metrics", "/%2e%2e/etc/passwd"])
def test_other_pages_are_not_there(ask, path):
    status, _, body = ask(path)
    assert status == 404
    assert body == b"see /metrics, /healthz, /readyz\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_refused(ask, method):
    assert ask("/metrics", method, b"x" if method in ("POST", "PUT") else None)[0] == 405


def test_head_gives_the_headers_only(ask):
    status, headers, body = ask("/metrics", "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(len(TEXT)))


def test_query_is_ignored(ask):
    assert ask("/metrics?name[]=a")[::2] == (200, TEXT)


def test_taken_port_is_one_line():
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HttpError) as caught:
            HttpServer(MetricsSettings(port=port), lambda: b"", lambda: True, lambda: True).start()
    message = str(caught.value)
    assert message == f"metrics.port: {HOST}:{port}: Address already in use; choose another port"


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("nowhere.invalid", "no such address; name one of this machine"),
        ("192.0.2.1", "Cannot assign requested address; choose another host"),
    ],
)
def test_a_host_that_is_not_this_machine_is_one_line(host, says):
    with pytest.raises(HttpError, match=f"^metrics.host: {host}:.* {says}$"):
        HttpServer(MetricsSettings(host=host, token="x" * 16), lambda: b"", lambda: True, lambda: True).start()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_stop_frees_the_port_at_once_and_leaves_nothing(host, monkeypatch):
    """A reader such as Prometheus keeps its connection, and must get the successor's figures all the same."""
    monkeypatch.setattr(edge.http, "STOP", 20.0)  # a busy machine may take longer than a second to wake a thread
    threads, files = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    settings = MetricsSettings(host=host, port=free_port())
    reader = http.client.HTTPConnection(HOST, settings.port, timeout=30)
    for number in range(5):
        text = b"a_total %d\n" % number
        server = HttpServer(settings, lambda text=text: text, lambda: True, lambda: True)
        server.start()
        try:
            reader.request("GET", "/metrics")
            answer = reader.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError):  # it notices with the next request
            reader.close()
            reader.request("GET", "/metrics")
            answer = reader.getresponse()
        assert answer.read() == text
        assert not answer.will_close
        server.stop()
        server.stop()
        assert not accepts(settings.port)
    reader.close()
    eventually(lambda: set(threading.enumerate()) <= threads, 30, "end of the threads", threading.enumerate)
    assert len(os.listdir("/proc/self/fd")) <= files


def test_taken_port_leaves_nothing():
    threads, files = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    with socket.create_server((HOST, 0)) as taken:
        server = HttpServer(MetricsSettings(port=taken.getsockname()[1]), lambda: b"", lambda: True, lambda: True)
        with pytest.raises(HttpError):
            server.start()
        server.stop()
    eventually(lambda: set(threading.enumerate()) <= threads, 30, "end of the threads", threading.enumerate)
    assert len(os.listdir("/proc/self/fd")) <= files


def test_server_never_started_can_be_stopped():
    HttpServer(MetricsSettings(), lambda: b"", lambda: True, lambda: True).stop()


@pytest.mark.parametrize("token", ["a long random text", "grün/+=%20"])
def test_metrics_want_the_token_and_the_rest_tells_nothing(token, caplog):
    settings = MetricsSettings(port=free_port(), token=token)
    server = HttpServer(settings, lambda: TEXT, lambda: True, lambda: True)
    server.start()

    def status(path, authorization=""):
        head = f"GET {path} HTTP/1.0\r\n" + (f"Authorization: {authorization}\r\n" if authorization else "") + "\r\n"
        with socket.create_connection((HOST, settings.port), 10) as line:
            line.sendall(head.encode())
            return line.makefile("rb").read().decode("latin-1")

    try:
        for wrong in ("", "Bearer", "Bearer ", f"Basic {token}", token, f"Bearer {token}x", f"Bearer {token[:-1]}"):
            answer = status("/metrics", wrong)
            assert answer.startswith("HTTP/1.0 401"), wrong
            assert TEXT.decode() not in answer
        (warning,) = (record.getMessage() for record in caplog.records)
        assert warning.startswith(f"http: {HOST} sent another token")
        assert "www-authenticate: bearer" in status("/metrics").lower()
        assert status("/metrics", f"Bearer {token}").startswith("HTTP/1.0 200")
        assert status("/healthz").startswith("HTTP/1.0 200")
        assert "401" not in status("/readyz")
    finally:
        server.stop()


def test_the_preview_is_named_by_an_address_that_can_be_opened(caplog):
    caplog.set_level("INFO")
    settings = MetricsSettings(host="0.0.0.0", port=free_port(), token="x" * 16)
    preview = Preview("hall", (), aggregate=False, metrics=Metrics("hall", "1"))
    server = HttpServer(settings, lambda: TEXT, lambda: True, lambda: True, preview)
    server.start()
    server.stop()
    assert f"preview: http://{socket.gethostname()}:{settings.port}/preview" in caplog.text


def test_open_to_others_warns(caplog):
    settings = MetricsSettings(host="0.0.0.0", port=free_port(), token="none")
    server = HttpServer(settings, lambda: TEXT, lambda: True, lambda: True)
    server.start()
    server.stop()
    assert f"whoever reaches 0.0.0.0:{settings.port} can read them" in caplog.text
