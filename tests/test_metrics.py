"""The Prometheus series: names, labels, values, and how many there are."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge.metrics import DROPPED_EVENTS, Metrics
from tests.parts.prometheus import promtool_check
from tests.parts.samples import LABELS

COUNTERS, GAUGES, HISTOGRAMS = "counter", "gauge", "histogram"
#: Every series that the design names: kind, labels.
SERIES = {
    "frames_captured_total": (COUNTERS, {"camera"}),
    "frames_dropped_total": (COUNTERS, {"camera", "reason"}),
    "frames_analysed_total": (COUNTERS, {"camera"}),
    "frame_age_seconds": (HISTOGRAMS, {"camera"}),
    "capture_lag_seconds": (HISTOGRAMS, {"camera"}),
    "capture_incidents_total": (COUNTERS, {"camera", "kind"}),
    "faces_total": (COUNTERS, {"camera"}),
    "faces_in_view": (GAUGES, {"camera"}),
    "face_seconds_total": (COUNTERS, {"camera", "emotion"}),
    "events_total": (COUNTERS, {"camera", "type"}),
    "camera_up": (GAUGES, {"camera"}),
    "camera_paused": (GAUGES, {"camera"}),
    "camera_reconnects_total": (COUNTERS, {"camera", "reason"}),
    "stage_duration_seconds": (HISTOGRAMS, {"stage"}),
    "inferences_total": (COUNTERS, {"stage"}),
    "events_dropped_total": (COUNTERS, {"reason"}),
    "publish_ack_seconds": (HISTOGRAMS, set()),
    "commands_total": (COUNTERS, {"result"}),
    "mqtt_connected": (GAUGES, set()),
    "mqtt_reconnects_total": (COUNTERS, set()),
    "mqtt_refusals_total": (COUNTERS, {"what"}),
    "faces_messages_dropped_total": (COUNTERS, {"reason"}),
    "outbox_events": (GAUGES, set()),
    "outbox_bytes": (GAUGES, set()),
    "outbox_oldest_seconds": (GAUGES, set()),
    "outbox_durable": (GAUGES, set()),
    "watchdog_stalls_total": (COUNTERS, {"stage"}),
    "build_info": (GAUGES, {"version", "python", "node"}),
    "model_info": (GAUGES, {"name", "version"}),
    "host_temperature_celsius": (GAUGES, set()),
    "host_throttled": (GAUGES, set()),
    "host_memory_bytes": (GAUGES, set()),
    "host_memory_available_bytes": (GAUGES, set()),
    "host_cpu_seconds_total": (COUNTERS, {"mode"}),
    "preview_pictures_total": (COUNTERS, set()),
    "preview_seconds_total": (COUNTERS, set()),
    "preview_viewers": (GAUGES, set()),
    "process_cpu_seconds_total": (COUNTERS, set()),
    "process_resident_memory_bytes": (GAUGES, set()),
    "process_virtual_memory_bytes": (GAUGES, set()),
    "process_start_time_seconds": (GAUGES, set()),
    "process_open_fds": (GAUGES, set()),
    "process_max_fds": (GAUGES, set()),
}


@pytest.fixture
def metrics():
    """Metrics of two cameras with every label value present."""
    metrics = Metrics("node", "1.2.3")
    for camera in ("door", "desk"):
        metrics.camera(camera, LABELS)
    metrics.model("a-model", "7")
    metrics.outbox(lambda: 3, lambda: 1200, lambda: 4.5)
    metrics.host(lambda: 55.5, lambda: 0.0, lambda: (70.0, 30.0), lambda: (4e9, 1e9))
    return metrics


def samples(metrics):
    families = text_string_to_metric_families(metrics.text().decode())
    return [sample for family in families for sample in family.samples]


def value(metrics, name, **labels):
    (found,) = [s.value for s in samples(metrics) if s.name == f"emotion_edge_{name}" and s.labels == labels]
    return found


def test_promtool_is_content(metrics):
    assert promtool_check(metrics.text().decode()) == ""


def test_every_series_of_the_design_is_there_and_no_other(metrics):
    families = {f.name: f for f in text_string_to_metric_families(metrics.text().decode())}
    found = {}
    for name, family in families.items():
        full = f"{name}_total" if family.type == COUNTERS else name
        labels = set().union(*(sample.labels for sample in family.samples)) - {"le"}
        found[full.removeprefix("emotion_edge_")] = (family.type, labels)
        assert full.startswith("emotion_edge_")
        assert family.documentation
    assert found == SERIES


def test_no_created_series(metrics):
    assert not [sample.name for sample in samples(metrics) if sample.name.endswith("_created")]


def test_at_most_sixty_series_a_camera(metrics):
    count = sum(sample.labels.get("camera") == "door" for sample in samples(metrics))
    assert 40 < count <= 60


def test_stages_have_eight_buckets(metrics):
    detect = [s for s in samples(metrics) if s.name.endswith("stage_duration_seconds_bucket")]
    assert sum(s.labels["stage"] == "detect" for s in detect) == 8


def test_series_of_a_camera_start_at_zero(metrics):
    fresh = [s for s in samples(metrics) if s.labels.get("camera") == "door"]
    assert {s.value for s in fresh} == {0}
    assert {s.labels["emotion"] for s in fresh if "emotion" in s.labels} == set(LABELS)
    assert {s.labels["type"] for s in fresh if "type" in s.labels} == {"start", "change", "end"}


def test_bound_series_count_for_their_camera_only(metrics):
    series = metrics.camera("door", LABELS)
    series.frames_captured.inc()
    series.frames_dropped["replaced"].inc(2)
    series.face_seconds["anger"].inc(0.5)
    series.events["start"].inc()
    series.frame_age.observe(0.03)
    assert value(metrics, "frames_captured_total", camera="door") == 1
    assert value(metrics, "frames_captured_total", camera="desk") == 0
    assert value(metrics, "frames_dropped_total", camera="door", reason="replaced") == 2
    assert value(metrics, "face_seconds_total", camera="door", emotion="anger") == 0.5
    assert value(metrics, "events_total", camera="door", type="start") == 1
    assert value(metrics, "frame_age_seconds_count", camera="door") == 1


def test_values_of_the_node(metrics):
    metrics.mqtt_connected.set(1)
    for reason in DROPPED_EVENTS:
        metrics.events_dropped[reason].inc()
    assert value(metrics, "mqtt_connected") == 1
    assert value(metrics, "events_dropped_total", reason="refused") == 1
    assert value(metrics, "outbox_events") == 3
    assert value(metrics, "outbox_bytes") == 1200
    assert value(metrics, "outbox_oldest_seconds") == 4.5
    assert value(metrics, "host_temperature_celsius") == 55.5
    assert value(metrics, "host_throttled") == 0
    assert value(metrics, "host_cpu_seconds_total", mode="busy") == 70
    assert value(metrics, "host_cpu_seconds_total", mode="idle") == 30
    assert value(metrics, "host_memory_bytes") == 4e9
    assert value(metrics, "host_memory_available_bytes") == 1e9


def test_another_model_takes_the_place_of_the_first(metrics):
    metrics.model("b-model", "8")
    named = [s.labels for s in samples(metrics) if s.name == "emotion_edge_model_info"]
    assert named == [{"name": "b-model", "version": "8"}]


def test_two_nodes_in_one_process_do_not_mix():
    one, other = Metrics("one", "1"), Metrics("other", "1")
    one.mqtt_reconnects.inc()
    assert value(other, "mqtt_reconnects_total") == 0
