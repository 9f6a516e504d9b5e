"""Ways to a broker: several of them, encrypted, with certificates of our own, over websockets."""

import logging
import socket
import ssl

import amqtt.broker
import pytest
from click.testing import CliRunner

import edge.client
import edge.mqtt
from edge.cli import cli
from edge.demo import EmbeddedBroker
from edge.metrics import Metrics
from edge.mqtt import Publisher
from edge.outbox import Outbox
from edge.settings import MqttSettings, MqttTlsSettings, SettingsError
from tests.parts import HOST, eventually, free_port
from tests.parts.broker import Mosquitto
from tests.parts.camera import Authority, FakeCamera
from tests.parts.samples import make_event


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def connect(monkeypatch, caplog):
    """Start publishers that try again at once; they are stopped with the test."""
    caplog.set_level(logging.INFO, logger="edge")
    monkeypatch.setattr(edge.mqtt, "BACK_OFF", (0.2,))
    made = []

    def start(**settings):
        outbox = Outbox()
        outbox.put([make_event(1)])
        publisher = Publisher(MqttSettings(**settings), "node", outbox, Metrics("node", "0"))
        publisher.start()
        made.append(publisher)
        return outbox

    yield start
    for publisher in made:
        publisher.stop(1)


def secure(parts, authority, days=2, name=f"IP:{HOST}", **settings):
    certificate, key = authority.sign(name, days)
    folder = parts.folder("secure")
    copies = {"certfile": folder / "server.pem", "keyfile": folder / "server.key"}
    copies["certfile"].write_bytes(certificate.read_bytes())
    copies["keyfile"].write_bytes(key.read_bytes())
    files = {name: str(path) for name, path in copies.items()}
    return parts.start(Mosquitto(folder, **{**files, "cafile": str(authority.ca), **settings}))


def refused(connect, caplog, text, **settings):
    """The publisher says `text` in one line, once, however often it tries."""
    outbox = connect(**settings)
    eventually(lambda: text in caplog.text, 30, "complaint", lambda: caplog.text)
    assert not outbox.wait_empty(0.8)
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 1, lines
    assert lines[0].endswith("; trying again")
    assert "\n" not in lines[0]


def test_encrypted_broker_of_an_authority_of_its_own(parts, authority, connect):
    broker = secure(parts, authority)
    assert connect(port=broker.port, tls={"ca": authority.ca, "alpn": ["mqtt"]}).wait_empty(30)


def test_a_renewed_certificate_is_taken_without_a_restart(parts, authority, connect, caplog, tmp_path):
    broker = secure(parts, authority, require_certificate="true")
    tls = {"ca": authority.ca, "certificate": tmp_path / "edge.pem", "key": tmp_path / "edge.key"}
    expired = authority.sign("DNS:edge", days=-1, stem="expired")
    for target, source in zip((tls["certificate"], tls["key"]), expired, strict=True):
        target.write_bytes(source.read_bytes())
    outbox = connect(port=broker.port, tls=tls)
    eventually(lambda: "trying again" in caplog.text, 30, "complaint")
    assert len(outbox) == 1
    tls["key"].write_text("half written")
    eventually(lambda: "going on with those read before" in caplog.text, 30, "complaint of the file")
    for target, source in zip(
        (tls["key"], tls["certificate"]), authority.sign("DNS:edge", stem="new")[::-1], strict=True
    ):
        target.write_bytes(source.read_bytes())
    assert outbox.wait_empty(30)


def test_alpn_is_asked_for(authority, connect):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.sign(f"IP:{HOST}", stem="alpn"))
    context.set_alpn_protocols(["h2", "mqtt"])
    with socket.create_server((HOST, 0)) as listener:
        connect(port=listener.getsockname()[1], tls={"ca": authority.ca, "alpn": ["mqtt"]})
        with context.wrap_socket(listener.accept()[0], server_side=True) as accepted:
            assert accepted.selected_alpn_protocol() == "mqtt"


def test_broker_that_asks_for_our_certificate(parts, authority, connect, caplog):
    broker = secure(parts, authority, require_certificate="true")
    certificate, key = authority.sign("DNS:edge", stem="edge")
    tls = {"ca": authority.ca, "certificate": certificate, "key": key}
    assert connect(port=broker.port, tls=tls).wait_empty(30)
    caplog.clear()
    outbox = connect(port=broker.port, tls={"ca": authority.ca})
    assert not outbox.wait_empty(1)
    eventually(lambda: "trying again" in caplog.text, 30, "complaint")


@pytest.mark.parametrize(
    ("days", "name", "says"),
    [(-1, f"IP:{HOST}", "certificate has expired"), (2, "IP:127.0.0.9", "IP address mismatch")],
)
def test_wrong_certificate_is_one_line(parts, authority, connect, caplog, days, name, says):
    broker = secure(parts, authority, days, name)
    refused(connect, caplog, says, port=broker.port, tls={"ca": authority.ca})


def test_certificate_of_an_unknown_authority_is_one_line_and_taken_only_if_told(parts, authority, connect, caplog):
    broker = secure(parts, authority)
    refused(connect, caplog, "check mqtt.tls.ca", port=broker.port, tls={})
    caplog.clear()
    assert connect(port=broker.port, tls={"insecure": True}).wait_empty(30)
    assert "insecure takes any certificate" in caplog.text


def test_plain_broker_on_the_tls_port_is_one_line(broker, authority, connect, caplog):
    refused(connect, caplog, "check mqtt.port", port=broker.port, tls={"ca": authority.ca})


@pytest.fixture
def websockets(monkeypatch):
    """Start the demo's broker, told to speak websockets: not every Mosquitto of Debian opens one without IPv6."""
    plain = amqtt.broker.Broker.__init__
    started = []

    def start(**listener):
        def over_websockets(self, config):
            plain(self, {**config, "listeners": {"default": {**config["listeners"]["default"], **listener}}})

        monkeypatch.setattr(amqtt.broker.Broker, "__init__", over_websockets)
        settings = MqttSettings(port=free_port())
        started.append(EmbeddedBroker(settings))
        started[-1].start()
        return settings.port

    yield start
    for broker in started:
        broker.stop()


def test_websockets(connect, websockets):
    assert connect(port=websockets(type="ws"), transport="websockets", path="/mqtt").wait_empty(30)


def test_websockets_with_a_header_that_paho_cannot_read(connect, caplog):
    with FakeCamera(terse) as broker:
        refused(connect, caplog, "trying again", port=broker.port, transport="websockets")


async def terse(reader, writer):
    """Leave out the blank after the colon, as HTTP allows."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade:websocket\r\nSec-WebSocket-Accept:abc\r\n\r\n")
    await writer.drain()


def test_encrypted_websockets(authority, connect, websockets, caplog):
    certificate, key = authority.sign(f"IP:{HOST}", stem="websocket")
    port = websockets(type="ws", ssl=True, certfile=str(certificate), keyfile=str(key))
    refused(connect, caplog, "check mqtt.tls.ca", port=port, transport="websockets", tls={})
    assert connect(port=port, transport="websockets", tls={"ca": authority.ca}).wait_empty(30)


def test_next_broker_when_the_first_does_not_answer_and_back(parts, connect, caplog):
    first, second = (Mosquitto(parts.folder(name), port=free_port()) for name in ("first", "second"))
    parts.start(second)
    outbox = connect(port=first.port, fallbacks=[f"{HOST}:{second.port}"])
    assert outbox.wait_empty(30)
    assert f"{second.port}: connected" in caplog.text
    parts.start(first)
    second.kill()
    outbox.put([make_event(2)])
    assert outbox.wait_empty(30)
    assert f"{first.port}: connected" in caplog.text


def test_files_that_are_no_certificates_are_one_line(tmp_path):
    (tmp_path / "x.pem").write_text("no certificate")
    with pytest.raises(SettingsError, match=r"^mqtt\.tls\.ca: \S*x\.pem: .*; name a PEM file with a certificate$"):
        edge.client.tls_context(MqttTlsSettings(ca=tmp_path / "x.pem"))


def test_check_looks_at_certificates(tmp_path):
    (tmp_path / "x.pem").write_text("no certificate")
    (tmp_path / "edge.yaml").write_text("cameras: {door: {source: 0}}\nmqtt: {tls: {ca: x.pem}}\n")
    result = CliRunner().invoke(cli, ["check", str(tmp_path / "edge.yaml")])
    assert isinstance(result.exception, SettingsError)
    place = f"{tmp_path / 'edge.yaml'}:2: mqtt.tls.ca: {tmp_path / 'x.pem'}: "
    assert str(result.exception) == f"{place}holds no certificate; name the authority's as a PEM file"


@pytest.mark.parametrize("command", [["check"], ["watch", "--config"], ["outbox", "drain", "--config"]])
def test_a_certificate_without_a_good_key_is_named_with_its_place(tmp_path, command):
    (tmp_path / "x.pem").write_text("no certificate")
    path = tmp_path / "edge.yaml"
    tls = "mqtt:\n  tls: {certificate: x.pem, key: x.pem}\n"
    path.write_text("cameras: {door: {source: 0}}\noutbox: {path: outbox.db}\n" + tls)
    result = CliRunner().invoke(cli, [*command, str(path)])
    assert str(result.exception).startswith(f"{path}:4: mqtt.tls: {tmp_path / 'x.pem'}, ")


def test_key_with_a_passphrase_asks_nobody(authority, tmp_path):
    certificate, key = authority.sign("DNS:edge", stem="locked")
    locked = tmp_path / "locked.key"
    authority._openssl("rsa", "-aes128", "-passout", "pass:secret", "-in", str(key), "-out", str(locked))
    with pytest.raises(SettingsError, match="without a passphrase"):
        edge.client.tls_context(MqttTlsSettings(certificate=certificate, key=locked))
