"""Each alert that ships fires by its real fault, and clears, on a live Prometheus."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.conftest import Parts
from tests.parts import eventually, tool
from tests.parts.ailing import AilingDaemon
from tests.parts.broker import Mosquitto
from tests.parts.daemon import Daemon
from tests.parts.monitoring import RECIPE, TOKEN, Monitoring, rules
from tests.parts.prometheus import promtool_check_config
from tests.parts.rtsp import RtspServer
from tests.parts.settings import settings_for
from tests.scenes import clear_portraits, compose

ALERTS = {rule["alert"] for rule in rules() if "alert" in rule}
#: Restarts until the alert must have come; each is one change of the start time.
KILLS = 8


def test_promtool_agrees_with_rules_and_alerts() -> None:
    done = subprocess.run(
        [tool("promtool", "prometheus"), "test", "rules", "rules_test.yml"],
        cwd=RECIPE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_is_tested_and_every_alert_silent_fires_and_clears() -> None:
    tests = yaml.safe_load((RECIPE / "rules_test.yml").read_text())["tests"]
    found: dict[str, list[bool]] = {}
    for each in (each for test in tests for each in test.get("alert_rule_test", [])):
        found.setdefault(each["alertname"], []).append(bool(each["exp_alerts"]))
    assert found == {alert: [False, True, False] for alert in ALERTS}
    asked = " ".join(each["expr"] for test in tests for each in test.get("promql_expr_test", []))
    assert [rule["record"] for rule in rules() if "record" in rule and rule["record"] not in asked] == []


def test_every_alert_says_what_to_do() -> None:
    for rule in rules():
        if "alert" in rule:
            assert set(rule["annotations"]) == {"summary", "remedy"}
            assert rule["labels"]["severity"] in ("warning", "critical")


def test_prometheus_takes_the_configuration_as_the_readme_installs_it(tmp_path: Path) -> None:
    commands = [line.strip() for line in (RECIPE / "README.md").read_text().splitlines() if line.startswith("    ")]
    assert (commands[-2].split()[0], commands[-1].split()[0]) == ("promtool", "systemctl")
    target = tmp_path / "prometheus"
    script = "\n".join(commands[:-1]).replace("/etc/prometheus", str(target)).replace("-g prometheus ", "")
    done = subprocess.run(["/bin/sh", "-ec", script], cwd=RECIPE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (target / "token").stat().st_mode & 0o777 == 0o640
    (target / "token").unlink()
    assert "token" in promtool_check_config(target / "prometheus.yml"), "it does look for the file"


@pytest.mark.timeout(1200)
def test_alerts_fire_by_their_faults_and_clear(parts: Parts, clips: Path, broker: Mosquitto) -> None:
    compose(clear_portraits(1, 2), clips / "clip.mp4", size=(320, 240), side=100, rate=5)
    servers = {name: parts.start(RtspServer(clips, parts.folder("rtsp"))) for name in ("good", "late")}
    file = {"source": str(clips / "clip.mp4"), "loop": True}

    def settings(node: str, camera: dict[str, object], **more: object) -> dict[str, object]:
        config = settings_for(broker, cam=camera)
        config["metrics"]["token"] = TOKEN
        # A summary a second, so that there is always something to deliver.
        return {**config, "node": node, "workers": 1, "summary": {"period": 1}, **more}

    good = Daemon(settings("good", {"source": servers["good"].url("clip.mp4")}), parts.folder("good"))
    # Events older than 0.86 s count as lost.
    hasty = Daemon(settings("hasty", file, outbox={"max_days": 0.00001}), parts.folder("hasty"))
    late = settings("late", {"source": servers["late"].url("clip.mp4")})
    hangs = settings("hangs", file)
    ailing = [
        AilingDaemon(ailment, config, parts.folder(ailment), {})
        for ailment, config in (("late", late), ("hangs", hangs))
    ]
    nodes = {str(daemon.config["node"]): parts.start(daemon) for daemon in (good, hasty, *ailing)}
    prometheus = parts.start(Monitoring(nodes, parts.folder("prometheus"), minute=1))
    fired: set[tuple[str, str]] = set()

    def fires(*alerts: tuple[str, str]) -> Callable[[], bool]:
        def seen() -> bool:
            fired.update(prometheus.firing())
            return fired.issuperset(alerts)

        return seen

    def until(condition: Callable[[], object], what: str) -> None:
        eventually(condition, 120, what, lambda: f"fired so far: {sorted(fired)}, now {sorted(prometheus.firing())}")

    def began() -> set[float]:
        return {s.value for s in prometheus.query('emotion_edge_process_start_time_seconds{node="hasty"}')}

    def began_after(before: set[float]) -> bool:
        return bool(began() - before)

    until(lambda: prometheus.query('emotion_edge_camera_up{node="good"} == 1') != [], "good camera")
    until(lambda: {s.labels["node"] for s in prometheus.query("up == 1")} == set(nodes), "all nodes")
    until(fires(("EmotionEdgeFrameAge", "late"), ("EmotionEdgeFramesDropped", "late")), "alerts of a slow analysis")
    until(fires(("EmotionEdgeNoFrames", "hangs")), "alert of a hanging analysis")
    assert not [each for each in fired if each[1] in ("good", "hasty")], "alerts without a fault"

    servers["good"].freeze()
    broker.stop()
    until(fires(("EmotionEdgeCameraDown", "good")), "alert of a lost camera")
    until(
        fires(("EmotionEdgeBrokerUnreachable", "good"), ("EmotionEdgeEventsLost", "hasty")), "alerts of a lost broker"
    )
    until(fires(("EmotionEdgeOutboxGrowing", "good")), "alert of an outbox that grows")
    restarts = fires(("EmotionEdgeRestarts", "hasty"))
    for _ in range(KILLS):
        before = began()
        nodes["hasty"].kill()
        nodes["hasty"].start()
        until(partial(began_after, before), "scrape of the restarted daemon")
        if restarts():
            break
    until(restarts, "alert of restarts")
    nodes["hasty"].kill()
    until(fires(("EmotionEdgeDown", "hasty")), "alert of a node that is down")
    assert {alert for alert, _ in fired} == ALERTS

    nodes["hasty"].start()
    servers["good"].thaw()
    broker.start()
    for sick in ailing:
        sick.kill()
        parts.start(Daemon(sick.config, sick.folder))
    until(lambda: not prometheus.firing(), "end of every alert")
