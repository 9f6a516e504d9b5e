"""The command, as a user runs it: answers, mistakes in one line, exit codes."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from edge import __version__
from edge.bundle import DEFAULT_MODEL, SHIPPED
from edge.classify import write_image
from edge.cli import _print_event, cli
from edge.config_option import DEFAULT_CONFIG
from tests.parts import HOST, free_port
from tests.parts.samples import LABELS, make_event, model_parts, portrait, write_model

ROOT = Path(__file__).parents[1]
CHATTER = "INFO: Created TensorFlow Lite XNNPACK delegate for CPU."


def emotion_edge(*arguments, folder=ROOT, **environment):
    """Run the command; returns exit code, stdout and the lines of stderr that are ours."""
    result = subprocess.run(
        [sys.executable, "-m", "edge", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in result.stderr
    return result.returncode, result.stdout, [line for line in result.stderr.splitlines() if line != CHATTER]


def classify(*arguments):
    """Run `classify` in this process."""
    return CliRunner().invoke(cli, ["classify", *map(str, arguments)])


@pytest.fixture
def picture(tmp_path):
    write_image(tmp_path / "portrait.png", portrait())
    return tmp_path / "portrait.png"


@pytest.fixture
def config(tmp_path):
    """Write a settings file with one camera; returns its path."""

    def write(**content):
        path = tmp_path / "edge.yaml"
        path.write_text(yaml.safe_dump({"cameras": {"door": {"source": 0}}, **content}))
        return path

    return write


def test_version():
    assert emotion_edge("--version") == (0, f"emotion-edge, version {__version__}\n", [])


def test_check_of_good_settings(config):
    code, out, err = emotion_edge("check", config(node="pi"))
    assert (code, err) == (0, [])
    assert "good; node pi, cameras door, model " in out


def test_check_of_the_example():
    assert emotion_edge("check", "configs/edge.yaml")[0] == 0


@pytest.mark.parametrize("command", [["check"], ["run", "--config"]])
def test_mistakes_in_the_settings_are_one_line(tmp_path, config, command):
    path = config(colour="red")
    assert emotion_edge(*command, path) == (
        2,
        "",
        [f"{path}:4: colour: unknown key; emotion-edge example shows every key"],
    )
    path.write_text("cameras: [\n")
    code, out, err = emotion_edge(*command, path)
    assert (code, out, len(err)) == (2, "", 1)
    assert err[0].startswith(f"{path}:")
    missing = tmp_path / "missing.yaml"
    code, out, err = emotion_edge(*command, missing)
    assert (code, out, len(err)) == (2, "", 1)
    assert err[0].startswith(f"{missing}: No such file")


def broken_models():
    """Name → what to write over a good model file, and what the line says."""
    network, info, labels = model_parts()
    content = DEFAULT_MODEL.read_bytes()
    flipped = bytearray(content)
    flipped[len(network) // 2] ^= 1
    return {
        "truncated": (lambda path: path.write_bytes(content[: len(content) // 2]), "no model metadata inside"),
        "flipped": (lambda path: path.write_bytes(flipped), "the file is damaged"),
        "labels": (lambda path: write_model(path, labels="a\nb\n"), "labels.txt says"),
        "order": (lambda path: write_model(path, labels="\n".join(reversed(labels.split()))), "labels.txt says"),
        "checksum": (lambda path: write_model(path, sha256="0" * 64), "the file is damaged"),
        "no-zip": (lambda path: path.write_bytes(network), "no model metadata inside"),
        "shape": (lambda path: write_model(path, **resized(info)), "model.json says int8 (1, 64, 64, 1)"),
        "no-tflite": (lambda path: write_model(path, network=b"nothing" * 99), "no TFLite network"),
        "missing": (lambda _path: None, "No such file"),
        "detector": (
            lambda path: path.write_bytes((SHIPPED / "blazeface_back.tflite").read_bytes()),
            "no model metadata inside",
        ),
    }


def resized(info):
    return {"input": {**info["input"], "shape": [64, 64, 1]}, "crop": {**info["crop"], "size": 64}}


@pytest.mark.parametrize("name", sorted(broken_models()))
def test_broken_model_is_one_line(tmp_path, config, name):
    write, says = broken_models()[name]
    path = tmp_path / f"{name}.tflite"
    write(path)
    code, out, err = emotion_edge("check", config(model=str(path)))
    assert (code, out, len(err)) == (2, "", 1)
    assert f"model: {path}: " in err[0]
    assert says in err[0]


def test_missing_runtime_is_one_line(config):
    code, out, err = emotion_edge("check", config(), EMOTION_EDGE_RUNTIME="onnx")
    assert (code, out) == (2, "")
    assert err == ["EMOTION_EDGE_RUNTIME=onnx: use one of ai-edge-litert, tflite-runtime"]


def test_taken_metrics_port_is_one_line(config):
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        path = config(metrics={"port": port}, mqtt={"port": free_port()})
        code, out, err = emotion_edge("run", "--config", path)
    assert (code, out) == (2, "")
    assert [line for line in err if "metrics.port" in line] == [
        f"ERROR {path}:5: metrics.port: {HOST}:{port}: Address already in use; choose another port"
    ]


def test_what_keeps_it_from_starting_is_json_if_the_log_is(config):
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        path = config(metrics={"port": port}, mqtt={"port": free_port()}, log={"format": "json"})
        code, out, err = emotion_edge("run", "--config", path)
    assert (code, out) == (2, "")
    assert "choose another port" in [json.loads(line) for line in err][-1]["message"]


def test_second_demo_says_what_is_in_the_way_and_nothing_before(config):
    with socket.create_server((HOST, 0)) as taken, socket.create_server((HOST, 0)) as broker:
        ports = {"metrics": {"port": taken.getsockname()[1]}, "mqtt": {"port": broker.getsockname()[1]}}
        code, out, err = emotion_edge("run", "--demo", "--config", config(**ports))
    assert (code, out) == (2, "")
    assert "choose another port" in err[-1]


def closing(redirections, *arguments):
    """Run the command with standard streams closed; returns exit code and stderr."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" "$@" {redirections}', sys.executable, "-m", "edge", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, [line for line in done.stderr.splitlines() if line != CHATTER]


@pytest.mark.parametrize(
    ("command", "code"),
    [("check {config}", 0), ("classify {picture}", 0), ("outbox ls -c {config}", 0), ("check none.yaml", 2)],
)
def test_closed_output_ends_in_no_traceback(config, picture, command, code):
    arguments = command.format(config=config(), picture=picture).split()
    found, err = closing(">&-", *arguments)
    assert (found, len(err)) == (code, code // 2 + ("outbox" in command)), err


def test_all_streams_closed(picture):
    assert closing(">&- 2>&- <&-", "classify", picture) == (0, [])


def test_what_could_steer_the_terminal_is_written_out(config, tmp_path):
    odd = tmp_path / "\x1b[2J.png"
    write_image(tmp_path / "a.png", np.full((80, 80, 3), 90, np.uint8))
    (tmp_path / "a.png").rename(odd)
    shown = str(tmp_path / r"\x1b[2J.png")
    assert classify(odd).output == f"{shown}: no faces\n"
    assert emotion_edge("classify", tmp_path / "\x1bgone.png")[2] == [
        f"{tmp_path}/\\x1bgone.png: No such file or directory; name an existing picture"
    ]
    settings = config()
    settings.rename(tmp_path / "\x9b1m.yaml")
    code, out, _ = emotion_edge("check", tmp_path / "\x9b1m.yaml")
    assert code == 0
    assert out.startswith(f"{tmp_path}/\\x9b1m.yaml: good")


@pytest.mark.parametrize("command", ["classify {fifo}", "classify {picture} --model {fifo}"])
def test_a_pipe_is_not_waited_for(picture, tmp_path, command):
    os.mkfifo(tmp_path / "fifo")
    code, _, err = emotion_edge(*command.format(picture=picture, fifo=tmp_path / "fifo").split())
    assert (code, len(err)) == (2, 1)
    assert err[0].startswith(f"{tmp_path / 'fifo'}: No regular file; ")


def test_paths_too_long_are_one_line(picture):
    long = "x" * 5000
    for arguments in (["check"], ["replay"], ["classify", picture, "--annotate"]):
        code, _, err = emotion_edge(*arguments, long)
        assert (code, len(err)) == (2, 1), arguments


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--source", "0"], "--source goes with --demo"),
        (["run", "--demo", "--source", "0", "--config", "x.yaml"], "--source goes without --config"),
        (["run", "--demo", "--source", "rtsp://u:hunter2@h/x"], "keys username and password"),
        (["classify"], "Missing argument"),
        (["classify", "a.png", "b.png", "--annotate", "c.png"], "--annotate takes one picture"),
        (["classify", "a.png", "--threshold", "nan"], "is no number"),
        (["classify", "a.png", "--threshold", "2"], "--threshold"),
        (["check"], "Missing argument"),
        (["dance"], "No such command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_use_is_explained(arguments, says):
    code, out, err = emotion_edge(*arguments)
    assert (code, out) == (2, "")
    assert says in err[-1]
    assert "hunter2" not in "".join(err)


def test_json_of_pictures_is_as_documented(picture, tmp_path):
    write_image(tmp_path / "empty.jpg", np.full((200, 300, 3), 90, np.uint8))
    code, out, err = emotion_edge("classify", picture, tmp_path / "empty.jpg", "--json")
    assert (code, err) == (0, [])
    shown, empty = json.loads(out)
    assert empty == {"file": str(tmp_path / "empty.jpg"), "faces": []}
    assert list(shown) == ["file", "faces"]
    assert shown["file"] == str(picture)
    (face,) = shown["faces"]
    assert list(face) == ["box", "confidence", "emotion", "probability", "probabilities"]
    assert list(face["box"]) == ["x", "y", "width", "height"]
    assert face["box"]["x"] == pytest.approx(271, abs=8)
    assert face["box"]["height"] == pytest.approx(138, abs=14)
    assert 0.5 < face["confidence"] <= 1
    assert tuple(face["probabilities"]) == LABELS
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert face["probability"] == face["probabilities"][face["emotion"]] == max(face["probabilities"].values())


def test_faces_in_json_are_largest_first(tmp_path):
    canvas = np.full((480, 960, 3), 90, np.uint8)
    canvas[:240, :240] = cv2.resize(portrait()[:, 80:560], (240, 240), interpolation=cv2.INTER_AREA)
    canvas[:, 480:] = portrait()[:, 80:560]
    write_image(tmp_path / "two.png", canvas)
    result = classify(tmp_path / "two.png", "--json")
    sizes = [face["box"]["width"] for face in json.loads(result.stdout)[0]["faces"]]
    assert len(sizes) == 2
    assert sizes[0] > sizes[1]


def test_text_for_people(picture, tmp_path):
    write_image(tmp_path / "empty.jpg", np.full((200, 300, 3), 90, np.uint8))
    result = classify(picture, tmp_path / "empty.jpg")
    lines = result.stdout.splitlines()
    assert lines[0] == f"{picture}: 1 face"
    assert " %" in lines[1]
    assert lines[2] == f"{tmp_path / 'empty.jpg'}: no faces"


def test_annotated_picture_shows_the_face(picture, tmp_path):
    result = classify(picture, "--annotate", tmp_path / "out.png")
    assert result.exit_code == 0, result.output
    changed = (cv2.imread(str(tmp_path / "out.png")) != portrait()).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert changed.sum() > 500
    assert columns.min() == pytest.approx(271, abs=10)
    assert rows.max() > 270


@pytest.mark.parametrize("name", ["words.png", "empty.png", "missing.png"])
def test_image_that_is_no_image_is_one_line(picture, tmp_path, name):
    (tmp_path / "words.png").write_text("just words")
    (tmp_path / "empty.png").touch()
    code, out, err = emotion_edge("classify", "--json", picture, tmp_path / name)
    assert (code, len(err)) == (2, 1)
    assert err[0].startswith(f"{tmp_path / name}: ")
    assert [document["file"] for document in json.loads(out)] == [str(picture)], "the others are not lost"


def test_annotation_does_not_overwrite_the_picture(picture):
    before = picture.read_bytes()
    result = classify(picture, "--annotate", picture)
    assert result.exit_code == 2
    assert "overwrite" in result.output
    assert picture.read_bytes() == before


def test_check_names_settings_and_key_of_a_bad_model(tmp_path):
    (tmp_path / "edge.yaml").write_text("cameras: {a: {source: 0}}\nmodel: none.tflite\n")
    code, _, err = emotion_edge("check", tmp_path / "edge.yaml")
    assert (code, len(err)) == (2, 1)
    assert err[0].startswith(f"{tmp_path / 'edge.yaml'}:2: model: {tmp_path / 'none.tflite'}: ")


@pytest.fixture
def odd_paths(tmp_path):
    """Names of files that can be no outbox."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("not SQLite at all")
    return {"folder": "is no regular file", "notes.txt": "is no outbox", "notes.txt/x.db": "is no folder"}


@pytest.mark.parametrize("command", [["check"], ["run", "--config"]])
@pytest.mark.parametrize("name", ["folder", "notes.txt", "notes.txt/x.db"])
def test_what_can_be_no_outbox_is_one_line_with_its_place(config, tmp_path, odd_paths, name, command):
    path = config(outbox={"path": name}, metrics={"port": free_port()}, mqtt={"port": free_port()})
    code, out, err = emotion_edge(*command, path)
    assert (code, out, len(err)) == (2, "", 1)
    assert f"{path}:9: outbox.path: {tmp_path / name}: " in err[0]
    assert odd_paths[name] in err[0]


@pytest.mark.parametrize("name", ["/proc/x.db", "/proc/none/x.db"])
def test_check_refuses_an_outbox_where_nobody_can_write(config, name):
    path = config(outbox={"path": name})
    code, out, err = emotion_edge("check", path)
    assert (code, out) == (2, "")
    assert err == [
        f"{path}:5: outbox.path: {name}: nothing can be written in /proc: No such file or directory; "
        "name a file elsewhere"
    ]


def test_a_settings_file_with_the_name_of_a_key_is_named_once(config, tmp_path, monkeypatch):
    config(outbox={"path": "/proc/x.db"}).rename(tmp_path / "outbox.yaml")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["check", "outbox.yaml"])
    assert str(result.exception).startswith("outbox.yaml:5: outbox.path: /proc/x.db: ")


def test_faces_that_privacy_forbids_are_said_to_have_no_effect(config):
    cameras = {name: {"source": 0, "faces": True} for name in ("door", "yard")}
    path = config(cameras=cameras, privacy="aggregate", model="none.tflite")
    line = f"{path}:3: cameras.door.faces: has no effect (so of yard) with privacy: aggregate; remove one of the two"
    assert emotion_edge("run", "--config", path)[2][0] == f"WARNING {line}"
    path = config(cameras={"door": cameras["door"]}, privacy="aggregate")
    code, _, err = emotion_edge("check", path)
    assert (code, err) == (0, [line.replace(" (so of yard)", "")])


def test_check_makes_no_outbox(config, tmp_path):
    assert emotion_edge("check", config(outbox={"path": "state/outbox.db"}))[0] == 0
    assert not (tmp_path / "state").exists()


def test_an_outbox_that_only_another_user_can_write_is_no_mistake(config, monkeypatch):
    def refused(_path):
        raise PermissionError(errno.EACCES, "nothing can be written in /var/lib: Permission denied")

    monkeypatch.setattr(
        "edge.cli.look_where_it_will_be", refused
    )  # the tests' user may be root, who may write anywhere
    path = config(outbox={"path": "outbox.db"})
    result = CliRunner().invoke(cli, ["check", str(path)])
    assert result.exit_code == 0
    assert f"{path}:5: outbox.path: " in result.stderr
    assert "the user that runs the daemon must be able to" in result.stderr


def test_run_names_the_place_of_a_bad_model(config):
    path = config(model="none.tflite", metrics={"port": free_port()})
    code, _, err = emotion_edge("run", "--config", path)
    assert (code, len(err)) == (2, 1)
    assert f"{path}:6: model: {path.with_name('none.tflite')}: " in err[0]


def test_classify_with_a_broken_model_is_one_line(picture):
    code, out, err = emotion_edge("classify", picture, "--model", SHIPPED / "blazeface_back.tflite")
    assert (code, out, len(err)) == (2, "", 1)
    assert "no model metadata inside" in err[0]


def test_annotation_that_cannot_be_written_is_one_line(picture, tmp_path):
    code, _, err = emotion_edge("classify", picture, "--annotate", tmp_path / "none" / "out.png")
    assert (code, len(err)) == (2, 1)
    where = f"{tmp_path / 'none' / 'out.png'}: No such file or directory"
    assert err[0] == f"{where}; name a file in a folder that you may write to"


def test_threshold_leaves_weak_faces_out(picture):
    assert json.loads(classify(picture, "--json", "--threshold", "0.99").stdout)[0]["faces"] == []


def test_daemon_imports_neither_tensorflow_nor_the_trainer():
    program = (
        "import sys, edge.cli; print([n for n in sys.modules if n.split('.')[0] in ('tensorflow', 'trainer', 'keras')])"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_printing_to_nobody_does_not_stop_the_publisher(monkeypatch):
    """`run --print | head`: the function runs in the publisher's thread, which an exception would end."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(os.dup(writer), "w") as stdout:
        os.close(writer)
        monkeypatch.setattr(sys, "stdout", stdout)
        _print_event(make_event())
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())  # closing writes what is left


def test_printing_to_a_full_disk_is_said_once_and_does_not_stop_the_publisher(monkeypatch, capsys):
    with open("/dev/full", "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        _print_event(make_event())
        _print_event(make_event())
    assert capsys.readouterr().err == "events are printed no more: No space left on device\n"


def test_ctrl_c_ends_a_command_without_a_word(monkeypatch, picture):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("edge.cli.read_bundle", interrupted)
    result = classify(picture)
    assert (result.exit_code, result.output) == (130, "")


def test_ctrl_c_while_it_is_being_loaded():
    program = (
        "import sys\n"
        "class Interrupts:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'edge.cli': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "from edge.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@pytest.mark.parametrize("names_outbox", [None, False, True], ids=["no settings", "none named", "one named"])
def test_demo_leaves_the_outbox_of_a_daemon_alone(config, tmp_path, monkeypatch, names_outbox):
    used = []

    class Ends:
        successor = None

        def __init__(self, settings, _published, reread, _config, signals):
            assert signal.getsignal(signal.SIGHUP) == signals.heard
            used.extend([settings.outbox.path, *([reread().outbox.path] if reread else [])])
            assert used[0].parent.is_dir()

        def run(self, _started):
            return 0

    monkeypatch.setattr("edge.cli.Service", Ends)
    monkeypatch.setattr("edge.cli.broker_answers", lambda _: True)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    named = (
        []
        if names_outbox is None
        else ["--config", str(config(**{"outbox": {"path": "my.db"}} if names_outbox else {}))]
    )
    result = CliRunner().invoke(cli, ["run", "--demo", *named], catch_exceptions=False)
    assert result.exit_code == 0
    if names_outbox:
        assert set(used) == {tmp_path / "my.db"}
    else:
        assert len(set(used)) == 1
        assert tmp_path / "state" not in used[0].parents
        assert not used[0].parent.exists(), "it goes with the demo"


@pytest.mark.parametrize("arguments", [["classify", "--json"], ["schema"], ["example"]])
def test_output_that_cannot_be_written_is_one_line(picture, arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edge", *arguments, *([str(picture)] if "classify" in arguments else [])],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    said = [line for line in done.stderr.splitlines() if line != CHATTER]
    assert said == ["the output cannot be written: No space left on device; make room, or write it elsewhere"]
    assert done.returncode == 2


def test_example_is_the_one_of_the_repository():
    assert CliRunner().invoke(cli, ["example"]).output == (ROOT / "configs" / "edge.yaml").read_text()


def test_replay_says_that_it_reads_no_settings_unless_told():
    shown = {name: CliRunner().invoke(cli, [name, "--help"]).output for name in ("run", "replay")}
    assert str(DEFAULT_CONFIG) in shown["run"]
    assert str(DEFAULT_CONFIG) not in shown["replay"]
