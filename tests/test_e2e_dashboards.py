"""Every expression of dashboards, rules and alerts, on a Prometheus that scrapes two daemons under known traffic.

`PICTURE=deploy/grafana/node.png python -m pytest tests/test_e2e_dashboards.py` draws the README's picture of that run.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import fmean

import cv2
import pytest
import yaml

from deploy.grafana.dashboard import HERE, Panel, filled, label_values, read_dashboard
from deploy.grafana.picture import Curve, Source, draw
from tests.conftest import Parts
from tests.parts import HOST, eventually
from tests.parts.broker import Mosquitto
from tests.parts.daemon import ROOT, Daemon
from tests.parts.monitoring import TOKEN, Monitoring, rules
from tests.parts.rtsp import RtspServer
from tests.parts.settings import settings_for
from tests.parts.subscriber import Subscriber
from tests.scenes import clear_portraits, compose, read_clip

DASHBOARDS = {name: read_dashboard(name) for name in ("node", "fleet")}
RATE, MOST, FACES = 10, 5, 8
#: Loops of the clip over which rates are taken.
LOOPS = 3
CLOSE = 0.05
QUERIES = [
    pytest.param(query.expression, id=f"{name}: {panel.title}")
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard.panels
    for query in panel.queries
]


def compared(expression: str) -> str:
    """Return an alert's expression with its comparisons as 0 or 1, so that one that is not true gives samples too."""
    return re.sub(r" (==|>) (?=[\d.])", r" \1 bool ", expression)


@pytest.fixture
def clip(clips: Path) -> tuple[Path, float]:
    """A clip in which eight faces come and go, and how long it is."""
    path = clips / "faces.mp4"
    people = clear_portraits(FACES, 3)
    compose(people, path, size=(640, 480), side=200, rate=RATE, seconds=1.8, gap=1.6, stagger=0.3)
    return path, len(read_clip(path)) / RATE


class Screen:
    """What somebody before the dashboards sees.

    Args:
        prometheus: who is asked.
        window: seconds over which rates are taken.
        period: seconds after which the traffic repeats.
    """

    def __init__(self, prometheus: Monitoring, window: int, period: float) -> None:
        self._address = f"http://{HOST}:{prometheus.port}"
        self._window, self.period = window, period

    def values(self, **chosen: str) -> dict[str, str]:
        """Return the values of all variables, with these chosen."""
        return {"camera": ".+", "site": ".+", "__rate_interval": f"{self._window}s", **chosen}

    def curves(self, board: str, title: str, **chosen: str) -> dict[str, float]:
        """Return name and mean, over one repetition of the traffic, of a panel's curves."""
        (panel,) = (panel for panel in DASHBOARDS[board].panels if panel.title == title)
        end = time.time()
        curves: list[Curve] = Source(self._address, end - self.period, end).curves(panel, self.values(**chosen))
        return {curve.name: fmean(curve.values) for curve in curves}


def test_every_expression_under_traffic(
    parts: Parts, broker: Mosquitto, subscriber: Subscriber, clip: tuple[Path, float], clips: Path, tmp_path: Path
) -> None:
    path, period = clip
    server = parts.start(RtspServer(clips, parts.folder("rtsp")))
    recorded = {"source": str(path), "loop": True}
    cameras = {
        # The second ends, is lost and comes again; the third gives more frames than are wanted.
        "hall": {"door": recorded, "yard": {"source": server.url("faces.mp4", loop=False), "max_fps": 2}},
        "shop": {"desk": {**recorded, "max_fps": MOST}},
    }
    nodes = {}
    for node, each in cameras.items():
        config = settings_for(broker, **each)
        config["metrics"]["token"] = TOKEN
        tracking = {"appear": 0.4, "lost": 1.0}
        config |= {"node": node, "tracking": tracking, "workers": 1, "summary": {"period": 2}}
        nodes[node] = parts.start(Daemon(config, parts.folder(node)))
    window = round(LOOPS * period)
    prometheus = parts.start(Monitoring(nodes, parts.folder("prometheus"), minute=5))
    screen = Screen(prometheus, window, period)

    every = [*_expressions(prometheus, screen)]
    assert not [expression for expression in every if "or vector(" in expression]
    pace = Pace(nodes, window, period)
    eventually(lambda: pace.look() >= window, window + 30, "traffic")
    silent = [expression for expression in every if not prometheus.query(expression)]
    eventually(lambda: not [each for each in silent if not prometheus.query(each)], 120, f"samples of each of {silent}")
    for dashboard in DASHBOARDS.values():
        for name, definition in dashboard.variables.items():
            series, label = label_values(filled(definition, screen.values(node="hall")))
            known = {"node": set(nodes), "camera": {"door", "yard"}, "site": {"site-a"}}
            assert prometheus.values(series, label) == known[name]

    eventually(
        lambda: pace.look() >= window + period and all(itertools.starmap(_agrees, _compared(screen, pace).values())),
        120,
        "agreement with what was driven",
        lambda: _compared(screen, pace),
    )

    # The broker has the same number of events as the figures say, once the latest are scraped.
    def counted_and_received(node: str, camera: str) -> tuple[float, int]:
        (counted,) = prometheus.query(f'sum(emotion_edge_events_total{{node="{node}", camera="{camera}"}})')
        return counted.value, len(subscriber.on(f"emotion/{node}/{camera}/event"))

    for place in (("hall", "door"), ("shop", "desk")):
        same = partial(lambda place: _agrees(*counted_and_received(*place)), place)
        eventually(same, 60, f"as many events of {place} as the broker has")
    assert not prometheus.firing()

    picture = Path(os.environ.get("PICTURE", tmp_path / "node.png"))
    source = Source(f"http://{HOST}:{prometheus.port}", time.time() - window, time.time())
    draw("node", source, screen.values(node="hall", __rate_interval="10s"), ROOT / picture)
    drawn = cv2.imread(str(ROOT / picture))
    assert drawn is not None
    assert drawn.shape[1] > 1000


def _expressions(prometheus: Monitoring, screen: Screen) -> Iterator[str]:
    """Yield every expression, as it is asked for each node."""
    for dashboard, node in itertools.product(DASHBOARDS.values(), ("hall", "shop")):
        for query in (query for panel in dashboard.panels for query in panel.queries):
            expression = filled(query.expression, screen.values(node=node))
            # The second node's camera is never lost, so there is nothing to say of that.
            if not (node == "shop" and "reconnects" in expression):
                yield expression
    for rule in rules():
        yield compared(prometheus.hurried(rule["expr"]))


class Pace:
    """How fast the daemons have played the clip, by their own pages: a busy machine plays it more slowly.

    Args:
        nodes: the daemons by their names.
        window: seconds over which rates are taken.
        period: seconds over which those are averaged.
    """

    def __init__(self, nodes: dict[str, Daemon], window: int, period: float) -> None:
        self._nodes, self._window, self._period = nodes, window, period
        self._seen: list[tuple[float, dict[str, float]]] = []

    def look(self) -> float:
        """Read the pages; returns for how many seconds that was done."""
        name = "emotion_edge_frames_captured_total"
        cameras = {"hall": "door", "shop": "desk"}
        frames = {node: daemon.value(name, camera=cameras[node]) for node, daemon in self._nodes.items()}
        self._seen.append((time.time(), frames))
        return self._seen[-1][0] - self._seen[0][0]

    def of(self, node: str) -> float:
        """Return the share of the clip's own pace."""
        end = self._seen[-1][0] - self._period / 2
        (t0, first), (t1, last) = (
            min(self._seen, key=lambda seen: abs(seen[0] - moment)) for moment in (end - self._window, end)
        )
        return (last[node] - first[node]) / (t1 - t0) / RATE


def _compared(screen: Screen, pace: Pace) -> dict[tuple[str, ...], tuple[float, float]]:
    """Return what is shown and what was driven, by where it is shown."""
    found = {}
    for key, value in _driven(screen.period):
        # Rates are those of the clip at its own pace, figures without a curve's name do not depend on that.
        factor = pace.of("hall" if key[1] == "hall" else "shop") if key[-1] and key[-1] != "hall" else 1
        found[key] = _shown(screen, key), factor * value
    return found


def _driven(period: float) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield dashboard, panel, node, camera and curve with the value that the traffic must give."""
    faces = 60 * FACES / period
    for node, camera, analysed in (("hall", "door", RATE), ("shop", "desk", MOST)):
        board = ("node", node, camera)
        yield (*board, "Frames captured and analysed", f"{camera} captured"), RATE
        yield (*board, "Frames captured and analysed", f"{camera} analysed"), analysed
        yield (*board, "Frames dropped", "rate"), RATE - analysed
        yield (*board, "Faces that came, a minute", camera), faces
        yield (*board, "Events a minute", "start"), faces
        yield (*board, "Events a minute", "end"), faces
        yield (*board, "Broker", ""), 1
        yield (*board, "Cameras that give frames", ""), 1
    yield ("fleet", "", "", "Nodes that answer", ""), 2
    yield ("fleet", "", "", "Nodes in all", ""), 2
    yield ("fleet", "", "", "Nodes with a broker", ""), 1
    yield ("fleet", "", "", "Frames analysed by node", "shop"), MOST
    yield ("fleet", "", "", "Faces that came, a minute", "shop"), faces
    yield ("fleet", "", "", "Restarts within a day", "hall"), 0


def _shown(screen: Screen, key: tuple[str, ...]) -> float:
    board, node, camera, title, curve = key
    chosen = {"node": node, "camera": camera} if board == "node" else {}
    return screen.curves(board, title, **chosen).get(curve, math.nan)


def _agrees(shown: float, driven: float) -> bool:
    return math.isclose(shown, driven, rel_tol=CLOSE, abs_tol=1e-9)


@pytest.mark.parametrize("expression", QUERIES)
def test_no_expression_hides_what_is_missing(expression: str) -> None:
    assert "vector(" not in expression
    assert "absent(" not in expression


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_fill_the_page_and_do_not_overlap(name: str) -> None:
    cells = [cell for panel in DASHBOARDS[name].panels for cell in _cells(panel)]
    assert len(cells) == len(set(cells))
    assert max(column for column, _ in cells) == 23
    assert len({panel.title for panel in DASHBOARDS[name].panels}) == len(DASHBOARDS[name].panels)


def _cells(panel: Panel) -> Iterator[tuple[int, int]]:
    left, top, width, height = panel.place
    return itertools.product(range(left, left + width), range(top, top + height))


def test_grafana_is_told_of_data_source_and_dashboards() -> None:
    folder = HERE.parent / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    (provider,) = yaml.safe_load((folder / "dashboards" / "emotion-edge.yml").read_text())["providers"]
    assert provider["type"] == "file"
    assert {path.stem for path in HERE.glob("*.json")} == set(DASHBOARDS)
