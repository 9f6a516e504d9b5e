"""The broker, step by step: its name, a connection, TLS, the login, a message."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
from typing import Any

from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from edge.client import (
    ANSWER_TIMEOUT,
    CONNECT_TIMEOUT,
    LOGIN_REFUSED,
    UNSUPPORTED_VERSION,
    BrokerError,
    connect,
    connection_failure,
    make_client,
    tls_context,
)
from edge.doctor.finding import Finding, failure, ok, warning
from edge.settings import MqttSettings, SettingsError

#: An answer to a command that nobody sent, on a topic that the daemon must be allowed to publish to anyway.
MESSAGE = json.dumps({"id": "doctor", "ok": True, "error": None}, separators=(",", ":"))


class _StepError(Exception):
    """A step failed; what was found, and the remedy."""

    def __init__(self, text: str, remedy: str) -> None:
        super().__init__(text)
        self.remedy = remedy


def broker(settings: MqttSettings, node: str) -> list[Finding]:
    """Try every broker of the list."""
    return [_try(settings, node, host, port) for host, port in settings.addresses]


def _try(settings: MqttSettings, node: str, host: str, port: int) -> Finding:
    subject = f"broker {host}:{port}"
    try:
        _resolve(host)
        _connect(settings, host, port)
        version = _publish(settings, node, host, port)
    except _StepError as error:
        return failure(subject, str(error), error.remedy)
    text = (
        f"connected{', encrypted' if settings.tls else ''}{', logged in' if settings.username else ''}, takes messages"
    )
    if settings.tls is not None and settings.tls.insecure:
        return warning(subject, f"{text}, its certificate unchecked", "name its authority's certificate as mqtt.tls.ca")
    return ok(subject, f"{text} (MQTT {version})")


def _resolve(host: str) -> None:
    try:
        socket.getaddrinfo(host, None)
    except (socket.gaierror, UnicodeError):
        raise _StepError("no such host", "mend mqtt.host, or the name service of this machine") from None


def _connect(settings: MqttSettings, host: str, port: int) -> None:
    """Connect, and agree on TLS, and hang up."""
    try:
        with contextlib.ExitStack() as stack:
            line = stack.enter_context(socket.create_connection((host, port), CONNECT_TIMEOUT))
            if settings.tls is not None:
                stack.enter_context(tls_context(settings.tls).wrap_socket(line, server_hostname=host))
    except SettingsError as error:
        raise _StepError(str(error), "mend the files of mqtt.tls") from None
    except TimeoutError:
        raise _StepError(f"no answer within {CONNECT_TIMEOUT:g} s", "is it up; does a firewall swallow it?") from None
    except ConnectionRefusedError:
        raise _StepError("nobody listens there", "start the broker, or mend mqtt.port") from None
    except OSError as error:
        text, _, remedy = connection_failure(error, settings.tls is not None).rpartition(" (")
        raise _StepError(text, remedy.removesuffix(")")) from None


def _publish(settings: MqttSettings, node: str, host: str, port: int) -> str:
    """Log in and publish; returns the version of MQTT that the broker speaks."""
    try:
        _exchange(settings, node, host, port, MQTTProtocolVersion.MQTTv5)
    except _UnsupportedError:
        _exchange(settings, node, host, port, MQTTProtocolVersion.MQTTv311)
        return "3.1.1"
    return "5"


class _UnsupportedError(Exception):
    """The broker does not speak this version of MQTT."""


def _exchange(settings: MqttSettings, node: str, host: str, port: int, version: MQTTProtocolVersion) -> None:
    answers: queue.SimpleQueue[ReasonCode | None] = queue.SimpleQueue()

    def answered(_client: Any, _data: Any, _what: Any, reason: ReasonCode, _properties: Any) -> None:
        answers.put(reason)

    tls = tls_context(settings.tls) if settings.tls else None
    client = make_client(settings, f"emotion-edge-{node}-doctor", version, tls)
    client.on_connect, client.on_publish = answered, answered
    client.on_disconnect = lambda *_: answers.put(None)
    try:
        connect(client, settings, host, port)
    except BrokerError as error:
        raise _StepError(str(error), "mend mqtt.transport and mqtt.path") from None
    client.loop_start()
    try:
        _check_login(_greeting(answers, version), version)
        sent = client.publish(f"{settings.base}/{node}/response", MESSAGE, qos=1)
        if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise _StepError("lost right after the login", "see the broker's log")
        reason = _next(answers)
        if reason is None or reason.is_failure:
            text = f"logged in, but takes no message: {reason or 'ends the connection'}"
            raise _StepError(text, f"allow this login to publish to {settings.base}/{node}/#")
    finally:
        client.disconnect()
        client.loop_stop()


def _greeting(answers: queue.SimpleQueue[ReasonCode | None], version: MQTTProtocolVersion) -> ReasonCode | None:
    try:
        return _next(answers)
    except _StepError:
        if version == MQTTProtocolVersion.MQTTv5:  # some that speak 3.1.1 only say nothing at all
            raise _UnsupportedError from None
        raise


def _next(answers: queue.SimpleQueue[ReasonCode | None]) -> ReasonCode | None:
    try:
        return answers.get(timeout=ANSWER_TIMEOUT)
    except queue.Empty:
        raise _StepError("connected, but it does not answer", "is it an MQTT broker? mend mqtt.port") from None


def _check_login(reason: ReasonCode | None, version: MQTTProtocolVersion) -> None:
    if version == MQTTProtocolVersion.MQTTv5 and (reason is None or reason.value == UNSUPPORTED_VERSION):
        raise _UnsupportedError
    if reason is None:
        raise _StepError("ends the connection instead of answering", "is it an MQTT broker? mend mqtt.port")
    if reason.value in LOGIN_REFUSED:
        raise _StepError(f"refuses the login: {reason}", "mend mqtt.username and mqtt.password")
    if reason.is_failure:
        raise _StepError(f"refuses the connection: {reason}", "see the broker's log")
