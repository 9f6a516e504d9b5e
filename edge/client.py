"""paho's client as the settings want it, how it connects, and what to say when it cannot."""

from __future__ import annotations

import ssl

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.settings import MqttSettings, MqttTlsSettings, SettingsError

CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 3.0
UNSUPPORTED_VERSION = 0x84
#: Bad user name or password; not authorised.
LOGIN_REFUSED = (0x86, 0x87)
#: Bytes of the largest message that is of use here, the discovery of very many cameras. paho takes in as much as the
#: broker sends, so the broker is told to send no more (MQTT 5; with 3.1.1 nobody can tell it).
LARGEST = 1 << 20
#: Bytes of such a message beside its payload, at most.
ROOM = 4096


class BrokerError(ConnectionError):
    """A broker cannot be reached; the message says why, and what to look at."""


def make_client(
    settings: MqttSettings, client_id: str, protocol: MQTTProtocolVersion, tls: ssl.SSLContext | None
) -> paho.Client:
    """Return a client with its login, not yet connected.

    Args:
        settings: of the broker.
        client_id: the name of the client at the broker.
        protocol: version of MQTT.
        tls: what `tls_context` made of the settings.
    """
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        protocol=protocol,
        transport=settings.transport,
        reconnect_on_failure=False,  # another broker may be there sooner; and its thread would wait before it ends
    )
    if settings.transport == "websockets":
        client.ws_set_options(settings.path)
    if tls is not None:
        client.tls_set_context(tls)
    if settings.username is not None:
        password = settings.password
        client.username_pw_set(settings.username, password.get_secret_value() if password else None)
    client.connect_timeout = CONNECT_TIMEOUT
    return client


def connect(client: paho.Client, settings: MqttSettings, host: str, port: int) -> None:
    """Reach a broker and ask it for a connection; its answer comes once the client's loop runs.

    Raises:
        BrokerError: it cannot be reached.
    """
    properties = None
    if client.protocol is MQTTProtocolVersion.MQTTv5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = LARGEST + ROOM
    try:
        client.connect(host, port, settings.keepalive, properties=properties)
    # IndexError: paho expects a blank after the colon of every header.
    except (OSError, ValueError, IndexError, paho.WebsocketConnectionError) as error:
        raise BrokerError(connection_failure(error, settings.tls is not None)) from None


def refusal(reason: ReasonCode) -> str:
    """Say that a broker refused the connection, and what to look at."""
    remedy = " (check mqtt.username and mqtt.password)" if reason.value in LOGIN_REFUSED else ""
    return f"refused the connection: {reason}{remedy}"


def tls_context(settings: MqttTlsSettings) -> ssl.SSLContext:
    """Return how to encrypt.

    Raises:
        SettingsError: a certificate or key cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(f"mqtt.tls.ca: {settings.ca}: {_why(error)}; name a PEM file with a certificate") from None
    try:
        if settings.certificate is not None:
            # A key with a passphrase would be asked for at the terminal.
            context.load_cert_chain(settings.certificate, settings.key, password=lambda: b"")
    except OSError as error:
        files = f"{settings.certificate}, {settings.key}"
        raise SettingsError(
            f"mqtt.tls: {files}: {_why(error)}; name PEM files that belong together, the key without a passphrase"
        ) from None
    if settings.alpn:
        context.set_alpn_protocols(list(settings.alpn))
    if settings.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"cannot be used ({error.reason or error})"
    return "this user may not read it" if isinstance(error, PermissionError) else str(error.strerror)


def connection_failure(error: Exception, encrypted: bool) -> str:
    """Say what failed, and what to look at."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {error.verify_message} (check mqtt.tls.ca and the host's name)"
    if isinstance(error, ssl.SSLError | ConnectionResetError) and encrypted:
        return f"no TLS: {error} (check mqtt.port, mqtt.tls)"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there (start the broker, or check mqtt.host and mqtt.port)"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} (check mqtt.host and mqtt.port)"
    return f"{error} (check mqtt.host, mqtt.port and mqtt.transport)"
