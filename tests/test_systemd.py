"""What systemd is told."""

import socket
import uuid

import pytest

from edge.systemd import notify, watchdog_seconds


@pytest.fixture
def listen():
    """Return a function that binds a datagram socket to an address."""
    opened = []

    def bind(address):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.settimeout(5)
        listener.bind(address)
        opened.append(listener)
        return listener

    yield bind
    for listener in opened:
        listener.close()


def test_fields_reach_the_socket_in_one_message(listen, tmp_path, monkeypatch):
    listener = listen(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    assert notify(READY=1, STATUS="2 cameras")
    assert listener.recv(4096) == b"READY=1\nSTATUS=2 cameras"


def test_abstract_sockets_work(listen, monkeypatch):
    name = f"emotion-edge-{uuid.uuid4()}"
    listener = listen(f"\0{name}")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    assert notify(WATCHDOG=1)
    assert listener.recv(4096) == b"WATCHDOG=1"


@pytest.mark.parametrize("address", [None, "", "/nowhere/notify", "@nobody-listens-here"])
def test_nobody_to_tell(address, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify(READY=1)


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [("30000000", 15.0), ("1500000", 0.75), (None, None), ("", None), ("0", None), ("-5", None), ("soon", None)],
)
def test_watchdog_is_fed_at_half_its_limit(limit, seconds, monkeypatch):
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    if limit is not None:
        monkeypatch.setenv("WATCHDOG_USEC", limit)
    assert watchdog_seconds() == seconds
