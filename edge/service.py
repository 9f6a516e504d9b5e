"""Builds everything from the settings, starts it, supervises it, stops it."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2

from edge import __version__, logs, systemd
from edge.analyser import Analyser
from edge.bundle import BundleError
from edge.camera import Camera
from edge.changes import Changes, changes
from edge.commands import Commands
from edge.control import Control
from edge.events import Event, state
from edge.homeassistant import HomeAssistant
from edge.host import cpu_seconds, memory_bytes, temperature, throttled
from edge.http import HttpError, HttpServer
from edge.metrics import Metrics
from edge.model import ModelFile
from edge.mqtt import Publisher, clear_removed_cameras, listen_for_commands
from edge.outbox import STUCK, Outbox
from edge.pipeline import Pipeline
from edge.placed import placed
from edge.preview.pages import Preview
from edge.settings import Settings, SettingsError
from edge.signals import Signals
from edge.store import OutboxBusyError, look_where_it_will_be
from edge.yunet import DetectorError, read_detector

log = logging.getLogger(__name__)

TICK = 1.0
#: Between lines for `systemctl status`, seconds.
STATUS = 10.0
#: Seconds that the end of the last file gives to the broker.
DELIVER = 10.0
#: Seconds that a stop gives to commands, cameras, workers and the broker, one after the other.
STOP_COMMANDS, STOP_CAMERAS, STOP_WORKERS, STOP_BROKER = 0.3, 0.3, 0.4, 0.8
#: Seconds that a stop gives to the disk, which an ailing one may need.
STOP_OUTBOX = 2.0
#: Seconds that it gives to the disk where a new start in the same process follows: as long as a commit may take.
HAND_OVER = STUCK


class Service:
    """The daemon.

    Args:
        settings: what it is told.
        published: called with each event that the broker acknowledged.
        reread: reads the settings again, on SIGHUP.
        config: the file that they are read from, for messages about it.
        signals: that have come since they were read.

    Attributes:
        successor: the daemon with other settings that is to run now; none if the end was meant.

    Raises:
        BundleError: the model file cannot be used.
        DetectorError: the detector's file cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        published: Callable[[Event], None] | None = None,
        reread: Callable[[], Settings] | None = None,
        config: Path | None = None,
        signals: Signals | None = None,
    ) -> None:
        self.successor: Service | None = None
        self._settings = settings
        self._published = published
        self._reread = reread
        self._config = config
        self._model = ModelFile(settings.model)
        self._keep = settings.detector.keep
        self._yunet = read_detector(settings.detector.model)
        bundle = self._model.bundle
        self._stopping = threading.Event()
        self._played_out = False
        self._signals = signals or Signals()
        self._aggregate = settings.privacy == "aggregate"
        self._summary_period = settings.summary.period
        self._metrics = Metrics(settings.node, __version__)
        self._metrics.model(bundle.info.name, bundle.info.version)
        self._outbox = Outbox(
            settings.outbox.path,
            durability=settings.outbox.durability,
            most_bytes=int(settings.outbox.max_megabytes * (1 << 20)),
            most_seconds=settings.outbox.max_days * 86_400,
            dropped=lambda reason, count: self._metrics.events_dropped[reason].inc(count),
        )
        self._metrics.host(temperature, throttled, cpu_seconds, memory_bytes)
        self._metrics.outbox(
            self._outbox.__len__, self._outbox.bytes, self._outbox.oldest_seconds, lambda: not self._outbox.problem()
        )
        self._names = set(settings.cameras)
        self._publisher = Publisher(settings.mqtt, settings.node, self._outbox, self._metrics, published, self._names)
        self._pipeline = Pipeline(
            self._make_analyser(),
            settings.workers or os.cpu_count() or 1,
        )
        self._preview = (
            Preview(settings.node, bundle.info.labels, self._aggregate, self._metrics)
            if settings.preview.enabled
            else None
        )
        self._http = HttpServer(settings.metrics, self._metrics.text, self.progress, self._ready, self._preview)
        self._cameras = [self._make_camera(name, settings) for name in settings.cameras]
        self._model_lock = threading.Lock()
        self._control = Control(
            self._cameras,
            self._keep,
            self._reload_model,
            self._publisher.states,
            self._outbox,
            settings.outbox.path.with_name(f"{settings.outbox.path.name}.paused"),
        )
        self._may_resume = "resume" in settings.commands.allow
        self._commands = Commands(
            settings.commands.allow, self._control.handlers, self._publisher.answer, self._metrics
        )
        listen_for_commands(self._publisher, self._commands.receive)
        clear_removed_cameras(self._publisher, self._names)
        self._home_assistant = HomeAssistant(settings, __version__, self._publisher)
        self._home_assistant.announce(bundle.info.labels)
        self._said = b""
        self._stuck: set[str] = set()
        self._status_at, self._status_frames = time.monotonic(), 0

    def run(self, started: Callable[[], object] = lambda: None) -> int:
        """Run until a signal, the end of every file, or a failure; returns the exit code.

        Args:
            started: called once nothing can keep it from starting any more.

        Raises:
            HttpError: the metrics' address cannot be listened on.
            OutboxBusyError: another daemon uses the outbox file.
        """
        cv2.setNumThreads(1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._signals.heard)
        self._outbox.start(keep_events=not self._aggregate)
        self._http.start()
        started()
        self._control.restore(self._may_resume)
        self._say_online()
        self._publisher.start()
        self._pipeline.start()
        self._commands.start()
        for camera in self._cameras:
            camera.start()
        systemd.notify(READY=1, STATUS=f"{len(self._cameras)} cameras")
        self._supervise()
        # A file that is no video is a failure of a daemon that was to play it, and no reason to call a stop one.
        unplayed = self._played_out and any(camera.capture.failed.is_set() for camera in self._cameras)
        failed = self._failed() or unplayed
        self._stop()
        return int(failed)

    def progress(self) -> bool:
        """Tell whether no thread is dead or has been inside one unit of work for too long."""
        now = time.monotonic()
        threads = (self._outbox, self._publisher, self._commands)
        return not self._pipeline.stuck(now) and not any(thread.stuck(now) or thread.dead() for thread in threads)

    def _say_online(self) -> None:
        self._said = self._online()
        self._publisher.set_state("status", self._said)

    def _online(self) -> bytes:
        problem = self._outbox.problem()
        problems = [problem] if problem else []
        return state(
            "online", version=__version__, model=self._model.name, paused=self._control.all_paused(), problems=problems
        )

    def _supervise(self) -> None:
        tick = min(TICK, systemd.watchdog_seconds() or TICK)
        summary_at = time.monotonic() + self._summary_period
        while not self._stop_asked(tick) and not self._failed():
            now = time.monotonic()
            self._check(now)
            asked = self._signals.take_hangup()
            if asked:
                self._check_settings()
            self._check_model(asked)
            if self.successor is not None:
                return
            summary_at = min(summary_at, now + self._summary_period)  # that may have become shorter
            if now >= summary_at:
                summary_at += self._summary_period
                for camera in self._cameras:
                    camera.summarise()
            if self._said != self._online():
                self._say_online()
            if self.progress():
                systemd.notify(WATCHDOG=1)
            if now - self._status_at >= STATUS:
                self._tell_status(now)
            if all(camera.capture.finished.is_set() for camera in self._cameras):
                log.info("no file has more to play")
                self._played_out = True
                self._deliver()
                return

    def _stop_asked(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for a signal; tells whether one asked for the end."""
        number = self._signals.wait(timeout)
        if number is not None and not self._stopping.is_set():
            log.info("stopping on %s", signal.Signals(number).name)
            self._stopping.set()
        return self._stopping.is_set()

    def _tell_status(self, now: float) -> None:
        """Tell systemd what is going on, with rates since the last time."""
        up, frames = self._metrics.totals()
        # Fewer frames than before: those of a camera that was removed no longer count.
        rate = max(0, frames - self._status_frames) / (now - self._status_at)
        self._status_at, self._status_frames = now, frames
        cameras = f"{up} of {len(self._cameras)} cameras online"
        systemd.notify(STATUS=f"{cameras}, {rate:.1f} frames/s analysed, {len(self._outbox)} messages wait")

    def _check_settings(self) -> None:
        """Go on with the settings file as it is now, if that can be used."""
        try:
            with placed(self._config):
                self._change(self._reread() if self._reread else self._settings)
        except (SettingsError, BundleError, DetectorError, HttpError, OutboxBusyError) as error:
            for line in str(error).splitlines():
                log.error("settings: %s; the old ones go on", line)

    def _change(self, new: Settings) -> None:
        """Go on with other settings, in whichever way they allow."""
        found = changes(self._settings, new)
        if found.everything:
            self._prepare_successor(new, found.everything)
        elif new != self._settings:
            self._apply(new, found)
        else:
            log.info("settings: nothing has changed")

    def _prepare_successor(self, new: Settings, keys: tuple[str, ...]) -> None:
        """Make the daemon of settings that need a new start of everything; raises what keeps it from starting."""
        here, there = self._settings.metrics, new.metrics
        if (here.host, here.port) != (there.host, there.port):
            # The port that we listen on ourselves cannot be tried, but another at the new address can.
            port = 0 if here.port == there.port else there.port
            where = there.model_copy(update={"port": port})
            trial = HttpServer(where, self._metrics.text, self.progress, self._ready)
            trial.start()
            trial.stop()
        successor = Service(new, self._published, self._reread, self._config)
        successor._stopping, successor._signals = self._stopping, self._signals  # a signal in between is for it too
        if not self._same_outbox(successor):
            _refuse_unwritable(new.outbox.path)
            successor._outbox.claim()
        if new.log != self._settings.log:
            logs.configure(new.log.level, new.log.format)
        earlier = self._home_assistant.topic
        if earlier != successor._home_assistant.topic:
            # Nobody would take it back later. The broker may be away now, or be another one from here on.
            self._publisher.set_retained(earlier, b"")
            successor._publisher.clear([earlier])
        successor._control.inherit(self._control.paused())  # its file may be another
        self.successor = successor
        log.info("settings: %s changed; everything starts anew", ", ".join(keys))

    def _apply(self, new: Settings, found: Changes) -> None:
        """Change what can be changed while the rest goes on."""
        model = ModelFile(new.model) if new.model != self._settings.model else None
        if new.log != self._settings.log:
            logs.configure(new.log.level, new.log.format)
        with self._model_lock:
            self._summary_period = new.summary.period
            rules, self._settings = self._settings.rules, new
            self._change_cameras(found)
            if new.rules != rules:
                for camera in self._cameras:
                    camera.change_rules(new.rules)
            if model is not None:
                self._model = model
                self._change_model()
            self._home_assistant.change(new, self._model.bundle.info.labels)
        restarted = ", ".join(dict.fromkeys((*found.removed, *found.start)))
        log.info("settings: changed%s", f"; cameras stopped, started or read anew: {restarted}" if restarted else "")

    def _change_cameras(self, found: Changes) -> None:
        """Stop cameras that are gone or different, and start those that are new or different."""
        before = {camera.name: camera for camera in self._cameras}
        # First, so that no summary of a camera that is gone stays retained after it was cleared.
        self._names.difference_update(found.removed)
        self._names.update(self._settings.cameras)
        fresh = {name: self._make_camera(name, self._settings) for name in found.start}
        self._cameras = [fresh.get(name) or before[name] for name in self._settings.cameras]
        if self._preview:
            self._preview.keep(list(self._settings.cameras))
        self._control.change_cameras(self._cameras)  # so that no command comes to a camera that has left
        deadline = time.monotonic() + STOP_CAMERAS
        for name in found.stop:
            before[name].stop_reading(0.0)  # all at once
        for name in found.stop:
            before[name].leave(deadline, name in found.removed)
        for name in found.removed:
            self._publisher.forget_camera(name)
        for camera in fresh.values():
            camera.start()

    def _make_camera(self, name: str, settings: Settings) -> Camera:
        return Camera(
            name,
            settings.cameras[name],
            rules=settings.rules,
            interval=settings.detector.interval,
            node=settings.node,
            labels=self._model.bundle.info.labels,
            model=self._model.name,
            pipeline=self._pipeline,
            outbox=self._outbox,
            set_state=self._publisher.set_state,
            metrics=self._metrics,
            least_people=settings.min_people if self._aggregate else None,
            preview=self._preview,
            say=self._publisher.say,
        )

    def _check_model(self, asked: bool) -> None:
        """Go on with the model file as it is now, if it was replaced."""
        with self._model_lock:
            if self._model.check(asked):
                self._change_model()

    def _reload_model(self) -> str:
        """Read the model file again, whether it was replaced or not; returns why it cannot be used, or nothing."""
        with self._model_lock:
            if self._model.check(asked=True):
                self._change_model()
            return self._model.refusal

    def _change_model(self) -> None:
        info = self._model.bundle.info
        # First the workers, so that no result of the old model comes after the cameras have changed.
        self._pipeline.change_analyser(self._make_analyser())
        for camera in self._cameras:
            camera.change_model(info.labels, self._model.name)
        if self._preview:
            self._preview.emotions = info.labels
        self._metrics.model(info.name, info.version)
        self._home_assistant.announce(info.labels)

    def _make_analyser(self) -> Callable[[], Analyser]:
        bundle = self._model.bundle
        return lambda: Analyser(bundle, self._keep, self._metrics, self._yunet)

    def _check(self, now: float) -> None:
        """Count what makes no progress, each stall once, and skip or replace it where that can be done."""
        threads = (("commit", self._outbox), ("publish", self._publisher), ("command", self._commands))
        for stage, thread in threads:
            stuck = thread.stuck(now)
            if stuck and stage not in self._stuck:
                self._metrics.stalls[stage].inc()
            (self._stuck.add if stuck else self._stuck.discard)(stage)
        late = self._pipeline.check(now)
        if late:
            self._metrics.stalls["analysis"].inc(late)
        for camera in self._cameras:
            if camera.capture.check(now):
                self._metrics.stalls["capture"].inc()

    def _deliver(self) -> None:
        """Give the broker time to take the events of files that have ended."""
        deadline = time.monotonic() + DELIVER
        while len(self._outbox) and time.monotonic() < deadline and not self._stop_asked(0.1):
            pass

    def _failed(self) -> bool:
        if self._publisher.dead():
            log.error("the publisher's thread died: giving up")
        if self._outbox.dead():
            log.error("the outbox's thread died: giving up")
        if self._commands.dead():
            log.error("the thread for commands died: giving up")
        threads = (self._publisher, self._outbox, self._commands)
        return self._pipeline.failed.is_set() or any(thread.dead() for thread in threads)

    def _stop(self) -> None:
        if self.successor is None:
            systemd.notify(STOPPING=1)
        self._commands.stop(STOP_COMMANDS)
        if self.successor is not None and self.successor._aggregate and not self._aggregate:
            self._publisher.stop(0.0)  # from here on nobody is told of single faces, not even their end
        deadline = time.monotonic() + STOP_CAMERAS
        for camera in self._cameras:
            camera.stop_reading(max(0.0, deadline - time.monotonic()))
        self._pipeline.stop(STOP_WORKERS)
        for camera in self._cameras:
            camera.stop()
        waiting = self._publisher.stop(STOP_BROKER)
        lost = self._outbox.stop(STOP_OUTBOX)
        if self.successor is not None and self._same_outbox(self.successor):
            self._hand_over()
            lost = self._outbox.stop(0)
        if lost:
            self._metrics.events_dropped["stopped"].inc(lost)
            log.warning("stopped with %d messages neither delivered nor on the disk; they are lost", lost)
        if waiting > lost:
            log.warning("stopped with %d messages that no broker took; kept for the next start", waiting - lost)
        self._http.stop()
        log.info("stopped")

    def _same_outbox(self, other: Service) -> bool:
        return other._settings.outbox.path.resolve() == self._settings.outbox.path.resolve()

    def _hand_over(self) -> None:
        """Wait until a slow disk lets go of the outbox, without which the successor could not run; none if it ends."""
        until = time.monotonic() + HAND_OVER
        while not self._outbox.stopped() and time.monotonic() < until:
            systemd.notify(WATCHDOG=1)
            if self._stop_asked(0.1):
                self.successor = None
                return

    def _ready(self) -> bool:
        return self._publisher.connected.is_set() and not self._stopping.is_set()


def _refuse_unwritable(path: Path) -> None:
    """Refuse an outbox where none can be. At a start a disk may have failed; a change is a mistake."""
    try:
        look_where_it_will_be(path)
    except OutboxBusyError:
        raise
    except OSError as error:
        raise SettingsError(f"outbox.path: {path}: {error.strerror}; name a file elsewhere") from None
