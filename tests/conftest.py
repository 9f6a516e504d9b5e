"""Fixtures: the real parts of `tests/parts`, each started on its own port and gone after the test, however it ends."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

from edge.logs import LimitedHandler
from tests.parts.broker import Mosquitto
from tests.parts.child import Child
from tests.parts.daemon import Daemon
from tests.parts.prometheus import Prometheus
from tests.parts.rtsp import RtspServer
from tests.parts.subscriber import Subscriber

pytest_plugins = ["pytester", "tests.parts.browser"]

# A shell lets what it starts in the background ignore Ctrl-C, and so would the programs that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is slow; the time limit of pytest is enough.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

T = TypeVar("T", bound=AbstractContextManager[Any])
FIGURE = "figure"
CHILDREN = pytest.StashKey[list[Child]]()


class Parts:
    """Starts parts for one test. Those started last are ended first."""

    def __init__(self, folder: Path, stack: ExitStack, children: list[Child]) -> None:
        self._folder, self._stack, self._children = folder, stack, children

    def start(self, child: T) -> T:
        """Start a part, to be ended with the test; the output of programs shows up in the report of a failure."""
        if isinstance(child, Child):
            self._children.append(child)
        self._stack.enter_context(child)
        return child

    def folder(self, name: str) -> Path:
        """Return a new folder for a part."""
        taken = sum(path.name.startswith(name) for path in self._folder.iterdir())
        path = self._folder / (f"{name}-{taken + 1}" if taken else name)
        path.mkdir()
        return path


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Take back what a command made of the root logger: the tests that follow read what is logged too."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
    for handler in root.handlers[:]:
        if isinstance(handler, LimitedHandler):
            root.removeHandler(handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start what takes minutes first: it decides how long everything takes.

    With `--maxschedchunk=1` the first worker gets the first two tests, one after the other, and the rest go around.
    Both of the long ones need the processor to themselves, as far as they can have it.
    """
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True)
def _state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep outboxes out of the user's home, and those of tests apart."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))


@pytest.fixture
def parts(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Parts]:
    """Start any part: `parts.start(Mosquitto(parts.folder("broker")))`."""
    with ExitStack() as stack:
        yield Parts(tmp_path, stack, request.node.stash.setdefault(CHILDREN, []))


@pytest.fixture
def broker(parts: Parts) -> Mosquitto:
    """A broker without passwords that keeps sessions and retained messages over a restart."""
    return parts.start(Mosquitto(parts.folder("broker"), persistent=True))


@pytest.fixture(autouse=True)
def _own_messages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests that are marked `own_messages` send what does not keep to the schemas; daemons must in any case."""
    monkeypatch.setattr(Subscriber, "sends_anything", "own_messages" in request.keywords)


@pytest.fixture
def subscriber(parts: Parts, broker: Mosquitto) -> Subscriber:
    """A client of `broker` that gets every message; they must keep to the schemas."""
    return parts.start(Subscriber(broker.port))


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """The folder that `rtsp_server` serves."""
    folder = tmp_path / "clips"
    folder.mkdir()
    return folder


@pytest.fixture
def rtsp_server(parts: Parts, clips: Path) -> RtspServer:
    """A camera stand-in for the clips in `clips`."""
    return parts.start(RtspServer(clips, parts.folder("rtsp")))


@pytest.fixture
def start_daemon(parts: Parts) -> Callable[..., Daemon]:
    """Start the daemon: `start_daemon(config)`, with the arguments of `Daemon` except the folder."""

    def start(config: dict[str, Any], **arguments: Any) -> Daemon:
        return parts.start(Daemon(config, parts.folder("daemon"), **arguments))

    return start


@pytest.fixture
def start_prometheus(parts: Parts) -> Callable[..., Prometheus]:
    """Start Prometheus: `start_prometheus(targets)`, with the arguments of `Prometheus` except the folder."""

    def start(targets: Sequence[str], **arguments: Any) -> Prometheus:
        return parts.start(Prometheus(targets, parts.folder("prometheus"), **arguments))

    return start


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Report a measured figure: it stands in the summary at the end, from whichever worker it came."""
    return lambda line: record_property(FIGURE, line)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the figures that the tests reported."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
    lines = [str(value) for report in reports for name, value in report.user_properties if name == FIGURE]
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Add the last lines of every program that a failed test had started to its report."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for child in item.stash.get(CHILDREN, []):
            report.sections.append((f"{child.name} ({child.command[0]})", child.tail()))
