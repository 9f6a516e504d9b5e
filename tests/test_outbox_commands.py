"""`emotion-edge outbox`."""

import contextlib
import json
import sqlite3
import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner

from edge.cli import cli
from edge.outbox import Outbox
from edge.summary import Summary
from tests.parts import eventually
from tests.parts.broker import Mosquitto
from tests.parts.samples import make_event
from tests.parts.schema import validate_event
from tests.parts.settings import settings_for


@pytest.fixture
def make(tmp_path):
    """Write settings for a broker and an outbox with events in it; returns a function that runs `outbox …`."""

    def setup(broker=None, count=3, **settings):
        path = tmp_path / "outbox.db"
        config = {**settings_for(broker, cam={"source": 0}), "outbox": {"path": str(path)}, **settings}
        (tmp_path / "edge.yaml").write_text(yaml.safe_dump(config))
        outbox = Outbox(path)
        outbox.start()
        outbox.put(make_event(seq, type="end", duration=1.0, reason="left") for seq in range(1, count + 1))
        if count:
            outbox.offer(30)
            outbox.refuse(make_event(1).id, "too large")
        outbox.stop(30)

        def run(*arguments, text=None):
            return CliRunner().invoke(cli, ["outbox", *arguments, "--config", str(tmp_path / "edge.yaml")], input=text)

        run.path = path
        return run

    return setup


def line_of(run, key):
    """Return the number of the line in the settings that a key begins."""
    lines = run.path.with_name("edge.yaml").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.strip().startswith(key))


def test_ls_lists_what_waits_and_what_was_refused(make):
    run = make()
    lines = run("ls").output.splitlines()
    assert [line.split() for line in lines] == [
        [line.split()[0], "camera", "event", make_event(seq).id] for line, seq in zip(lines, (2, 3), strict=True)
    ]
    documents = [json.loads(line) for line in run("ls", "--json").output.splitlines()]
    assert [document["payload"]["seq"] for document in documents] == [2, 3]
    for document in documents:
        validate_event(document["payload"])
    assert run("ls", "--refused").output.split()[:2] == ["too", "large"]


def test_ls_of_an_outbox_in_use(make):
    run = make()
    daemon = Outbox(run.path)
    daemon.start()
    assert len(run("ls").output.splitlines()) == 2
    daemon.stop(30)


@pytest.mark.parametrize("there", [True, False])
def test_ls_of_nothing_says_so_beside_the_output(make, there):
    run = make(count=0)
    if not there:
        run.path.unlink()
    for arguments, says in (
        ([], "nothing waits"),
        (["--json"], "nothing waits"),
        (["--refused"], "nothing was refused"),
    ):
        result = run("ls", *arguments)
        assert (result.stdout, result.stderr, result.exit_code) == ("", f"{run.path}: {says}\n", 0)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.mkdir(), "is no regular file"),
        (lambda path: path.write_bytes(b"not SQLite at all"), "nothing of it can be read"),
    ],
)
def test_ls_of_what_is_no_outbox_is_a_mistake(make, spoil, says):
    run = make(count=0)
    run.path.unlink()
    spoil(run.path)
    result = run("ls")
    assert result.stdout == ""
    assert f"edge.yaml:{line_of(run, 'path:')}: outbox.path: {run.path}: " in str(result.exception)
    assert says in str(result.exception)


def test_ls_of_a_damaged_outbox_says_so(make):
    run = make(count=200)
    content = bytearray(run.path.read_bytes())
    content[4096 * 3 : 4096 * 6] = bytes(range(256)) * 48
    run.path.write_bytes(content)
    result = run("ls")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{run.path}: damaged: this is what can be read; ")


def test_ls_where_no_file_can_be_is_a_mistake(make, tmp_path):
    (tmp_path / "file").touch()
    run = make(count=0)
    (tmp_path / "edge.yaml").write_text("cameras: {a: {source: 0}}\noutbox: {path: file/outbox.db}\n")
    assert "file is no folder; name a file in a folder" in str(run("ls").exception)


def test_drain_does_not_count_as_delivered_what_the_broker_refused(make, parts):
    broker = parts.start(Mosquitto(parts.folder("small"), max_packet_size=300))
    run = make(broker)
    result = run("drain")
    assert result.output.splitlines()[-1] == "0 messages delivered, 0 left, 2 refused for good"


def test_drain_sends_what_waits(make, broker, subscriber):
    run = make(broker)
    result = run("drain")
    assert result.output.splitlines()[-1] == "2 messages delivered, 0 left"
    assert result.exit_code == 0
    eventually(lambda: len(subscriber.on("emotion/test/camera/event")) == 2, 30, "events")
    assert run("ls").stdout == ""


def test_drain_drops_nothing_however_much_waits(make, broker, subscriber, monkeypatch):
    run = make(broker, count=40)  # one of them is refused
    monkeypatch.setitem(Outbox.__init__.__kwdefaults__, "most_bytes", 1000)
    assert run("drain").output.splitlines()[-1] == "39 messages delivered, 0 left"
    eventually(lambda: len(subscriber.on("emotion/test/camera/event")) == 39, 30, "events")


def test_drain_publishes_no_event_where_only_sums_may_be(make, broker, subscriber):
    run = make(broker, privacy="aggregate")
    summary = Summary("test", "camera", ("neutral",), "model")
    summary.begin(0.0, 0)
    waiting = Outbox(run.path)
    waiting.start()
    waiting.put_message(summary.tell(60.0, 0, waiting.epoch))
    waiting.stop(30)
    assert run("drain").output.splitlines()[-1] == "1 messages delivered, 0 left"
    eventually(lambda: subscriber.on("emotion/test/camera/summary"), 30, "summary")
    assert not subscriber.on("emotion/test/camera/event")
    assert make_event(2).id.encode() not in run.path.read_bytes()


def test_drain_without_a_broker_leaves_everything(make):
    run = make()
    result = run("drain", "--timeout", "1")
    assert (result.output.splitlines()[-1], result.exit_code) == ("0 messages delivered, 2 left", 1)
    assert len(run("ls").output.splitlines()) == 2


def test_drain_of_a_damaged_outbox_sends_what_can_be_read_and_is_no_success(make, broker):
    run = make(broker, count=200)
    content = bytearray(run.path.read_bytes())
    content[4096 * 10 : 4096 * 13] = bytes(range(256)) * 48
    run.path.write_bytes(content)
    result = run("drain")
    *_, counts = result.stdout.splitlines()
    assert 0 < int(counts.split()[0]) < 199
    assert counts.endswith("messages delivered, 0 left")
    assert result.stderr.splitlines()[-1] == f"{run.path}: was damaged: what could not be read of it is lost"
    assert result.exit_code == 1
    assert run("drain").exit_code == 0


def test_drain_of_a_damaged_message_is_no_success(make, broker):
    run = make(broker)
    with contextlib.closing(sqlite3.connect(run.path)) as file, file:
        file.execute("UPDATE messages SET checksum = checksum + 1 WHERE row = (SELECT max(row) FROM messages)")
    result = run("drain")
    assert (result.stdout.splitlines()[-1], result.exit_code) == ("1 messages delivered, 0 left", 1)


def test_drain_of_what_cannot_be_written_is_no_success(make, broker, tmp_path):
    run = make(broker)
    settings = yaml.safe_load((tmp_path / "edge.yaml").read_text())
    (tmp_path / "edge.yaml").write_text(yaml.safe_dump({**settings, "outbox": {"path": "/proc/x.db"}}))
    assert run("drain").exit_code == 1


@pytest.mark.parametrize("redirection", ["</dev/null", "<&-"])
def test_purge_that_nobody_answers_names_the_option(make, tmp_path, redirection):
    run = make()
    command = [sys.executable, "-m", "edge", "outbox", "purge", "--config", str(tmp_path / "edge.yaml")]
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" "$@" {redirection}', *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "nothing was deleted; --yes deletes without asking" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert len(run("ls").output.splitlines()) == 2


def test_purge_asks_and_leaves_no_trace(make):
    run = make()
    damaged = run.path.with_name("outbox.db.damaged-1")
    damaged.touch()
    assert run("purge", text="n\n").exit_code == 1
    assert len(run("ls").output.splitlines()) == 2
    assert "2 messages deleted" in run("purge", text="y\n").output
    assert run("ls").stdout == ""
    assert run("ls", "--refused").stdout == ""
    assert make_event(2).id.encode() not in run.path.read_bytes()
    assert not damaged.exists()


@pytest.mark.parametrize("command", [("purge", "--yes"), ("drain",)])
def test_a_running_daemon_is_not_disturbed(make, command):
    run = make()
    daemon = Outbox(run.path)
    daemon.start()
    result = run(*command)
    place = f"edge.yaml:{line_of(run, 'path:')}: outbox.path: {run.path}: "
    assert f"{place}another emotion-edge uses it; stop that one" in str(result.exception)
    daemon.stop(30)
