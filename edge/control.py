"""What commands do: pause and resume cameras, change thresholds, read the model again, tell the state."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.camera import Camera
from edge.commands import CommandError, Handler
from edge.outbox import Outbox
from edge.settings import Command
from edge.store import sync_folder

log = logging.getLogger(__name__)

#: The thresholds that a command may change, by their key in the settings, and what `Rules` calls them.
THRESHOLDS = {"detector.threshold": "begin", "tracking.enter": "enter", "tracking.exit": "exit"}


class Control:
    """Carries out commands.

    Args:
        cameras: of the node.
        keep: least confidence of a face already followed; that of a new one must not be less.
        reload: reads the model again; returns why it cannot be used, empty if it can.
        states: returns the retained states by their topics below the node's.
        outbox: where events wait.
        file: keeps which cameras are paused over a restart.
    """

    def __init__(
        self,
        cameras: Collection[Camera],
        keep: float,
        reload: Callable[[], str],
        states: Callable[[], Mapping[str, bytes]],
        outbox: Outbox,
        file: Path,
    ) -> None:
        self._cameras = {camera.name: camera for camera in cameras}
        self._keep = keep
        self._reload = reload
        self._states = states
        self._outbox = outbox
        self._file = file
        self._saved: Sequence[object] = []
        self._inherited: set[str] = set()
        self._lock = threading.Lock()
        self.handlers: dict[Command, Handler] = {
            "pause": self._pause,
            "resume": self._resume,
            "threshold": self._change_thresholds,
            "reload": self._read_model,
            "snapshot": self._snapshot,
        }

    def change_cameras(self, cameras: Collection[Camera]) -> None:
        """Carry out commands for these cameras from now on; one in the place of a paused one is paused."""
        with self._lock:
            for camera in cameras:
                before = self._cameras.get(camera.name)
                if before is not None and before.paused and not camera.paused:
                    camera.pause()
            self._cameras = {camera.name: camera for camera in cameras}
            with contextlib.suppress(OSError):
                self._save()

    def paused(self) -> list[str]:
        """Return the names of the cameras that are paused."""
        return [name for name, camera in self._cameras.items() if camera.paused]

    def inherit(self, paused: Collection[str]) -> None:
        """Take over which cameras are paused from the daemon before in this process; before `restore`."""
        self._inherited = set(paused)

    def restore(self, may_resume: bool) -> None:
        """Pause the cameras that were paused when the daemon ended, if a command may resume them."""
        self._saved = self._read()
        paused = self._inherited | {name for name in self._saved if isinstance(name, str)}
        for name in [name for name in self._cameras if name in paused]:
            if may_resume:
                log.info("camera %s: still paused by command", name)
                self._cameras[name].pause()
            else:
                log.warning("camera %s: was paused, but commands.allow has no resume now; it goes on", name)
        with contextlib.suppress(OSError):
            self._save()

    def _read(self) -> list[object]:
        try:
            saved = json.loads(self._file.read_bytes())
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            log.warning("which cameras were paused is not known, so none is: %s: %s", self._file, error)
            return []
        return saved if isinstance(saved, list) else []

    def all_paused(self) -> bool:
        """Tell whether no camera is watched."""
        return all(camera.paused for camera in self._cameras.values())

    def _pause(self, camera: str | None, arguments: dict[str, Any]) -> dict[str, Any]:
        return self._set_paused(camera, arguments, True)

    def _resume(self, camera: str | None, arguments: dict[str, Any]) -> dict[str, Any]:
        return self._set_paused(camera, arguments, False)

    def _set_paused(self, camera: str | None, arguments: dict[str, Any], paused: bool) -> dict[str, Any]:
        _no_arguments(arguments)
        with self._lock:
            for each in self._chosen(camera):
                if each.paused != paused:
                    (each.pause if paused else each.resume)()
            try:
                self._save()
            except OSError as error:
                # It is in force, so the command has not failed.
                return {"warning": f"in force, but it will not outlive a restart of the daemon: {error.strerror}"}
        return {}

    def _change_thresholds(self, camera: str | None, arguments: dict[str, Any]) -> dict[str, Any]:
        if not arguments or not arguments.keys() <= THRESHOLDS.keys():
            raise CommandError(f"arguments: must be some of {', '.join(THRESHOLDS)}")
        for name, value in arguments.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
                raise CommandError(f"arguments: {name} must be a number between 0 and 1")
        if arguments.get("detector.threshold", 1) < self._keep:
            raise CommandError(f"arguments: detector.threshold must not be below detector.keep, {self._keep:g}")
        changes = {THRESHOLDS[name]: float(value) for name, value in arguments.items()}
        changed = [(each, replace(each.rules, **changes)) for each in self._chosen(camera)]
        for each, rules in changed:
            if rules.exit > rules.enter:
                text = f"tracking.exit, {rules.exit:g}, must not be above tracking.enter, {rules.enter:g}"
                raise CommandError(f"arguments: camera {each.name}: {text}")
        for each, rules in changed:
            each.change_rules(rules)
        return {}

    def _read_model(self, camera: str | None, arguments: dict[str, Any]) -> dict[str, Any]:
        _no_arguments(arguments)
        if camera is not None:
            raise CommandError("the model is the node's; send reload to the node's topic")
        refusal = self._reload()
        if refusal:
            raise CommandError(f"the model cannot be used, the one before goes on: {refusal}")
        return {}

    def _snapshot(self, camera: str | None, arguments: dict[str, Any]) -> dict[str, Any]:
        """Tell the retained states, which privacy has gone through, and what else a command can change."""
        _no_arguments(arguments)
        chosen = self._chosen(camera)
        topics = [f"{each.name}/" for each in chosen] + ([] if camera else ["status"])
        states = {
            topic: json.loads(payload)
            for topic, payload in self._states().items()
            if payload and topic.startswith(tuple(topics))
        }
        thresholds = {
            each.name: {name: getattr(each.rules, field) for name, field in THRESHOLDS.items()} for each in chosen
        }
        waiting = {
            "messages": len(self._outbox),
            "bytes": self._outbox.bytes(),
            "oldest_seconds": round(self._outbox.oldest_seconds(), 3),
        }
        return {"state": {"states": states, "thresholds": thresholds, "outbox": waiting}}

    def _chosen(self, camera: str | None) -> list[Camera]:
        if camera is None:
            return list(self._cameras.values())
        if camera not in self._cameras:
            raise CommandError("the node has no such camera")
        return [self._cameras[camera]]

    def _save(self) -> None:
        """Write down which cameras are paused, whole or not at all. Raises `OSError`."""
        paused = sorted(name for name, camera in self._cameras.items() if camera.paused)
        if paused == self._saved:
            return
        fresh = self._file.with_name(f"{self._file.name}.new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(paused, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._file)
        sync_folder(self._file.parent)
        self._saved = paused


def _no_arguments(arguments: dict[str, Any]) -> None:
    if arguments:
        raise CommandError("arguments: there are none for this command")
