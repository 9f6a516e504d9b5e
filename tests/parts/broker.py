"""A real Mosquitto."""

from __future__ import annotations

import getpass
import subprocess
from pathlib import Path

from tests.parts import HOST, accepts, free_port, tool
from tests.parts.child import Child


class Mosquitto(Child):
    """A broker on a port of its own that stays the same over restarts.

    Args:
        folder: for its files.
        port: a free one if left out.
        passwords: user → password; without any, everybody may connect.
        persistent: whether sessions and retained messages outlive a stop.
        settings: more lines of mosquitto.conf, such as `max_inflight_messages=1`; a list gives several lines.
    """

    name = "mosquitto"

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        passwords: dict[str, str] | None = None,
        *,
        persistent: bool = False,
        **settings: str | int | list[str],
    ) -> None:
        self.host, self.port = HOST, port or free_port()
        self._settings = {
            "listener": f"{self.port} {HOST}",
            # Started by root it would become another user, who may not write to the folder.
            "user": getpass.getuser(),
            "allow_anonymous": "false" if passwords else "true",
            "persistence": "true" if persistent else "false",
            "persistence_location": f"{folder}/",
            "log_type": "all",
            **settings,
        }
        self._passwords = passwords or {}
        super().__init__([tool("mosquitto", "mosquitto"), "-c", str(folder / "mosquitto.conf")], folder)

    def launch(self) -> None:
        """Write configuration and password file, then start it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._passwords:
            self._settings["password_file"] = str(self._write_passwords())
        lines = [
            f"{key} {value}"
            for key, values in self._settings.items()
            for value in (values if isinstance(values, list) else [values])
        ]
        (self.folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        super().launch()

    def ready(self) -> bool:
        """Tell whether it accepts connections."""
        return accepts(self.port)

    def _write_passwords(self) -> Path:
        path = self.folder / "passwords"
        path.write_text("".join(f"{user}:{password}\n" for user, password in self._passwords.items()))
        path.chmod(0o600)
        subprocess.run([tool("mosquitto_passwd", "mosquitto"), "-U", str(path)], check=True)
        return path
