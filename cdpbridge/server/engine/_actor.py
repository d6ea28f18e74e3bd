"""What Ray runs on its nodes: `WorkerActor`, a process that holds one `cdpbridge worker`, and a look at a node.

Imported by Ray's own processes, so it imports next to nothing. The worker ends when its standard input does: with this process,
however that ends, and Ray's end of the actor is the end of its browsers. Nothing secret passes through Ray: `CDPBRIDGE_WORKER_SECRET`
and the settings of browsers are in the environment in which `ray start` was called on the node.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final

__all__ = ["RECONNECT_NAME", "WorkerActor", "look_at_node"]

RECONNECT_NAME: Final = "gcs_rpc_server_reconnect_timeout_s"
"""Ray's setting: seconds after which a node without the head ends, with its actors."""
# Ray 2.60, src/ray/common/ray_config_def.h.
_RECONNECT_DEFAULT_SECONDS: Final = 60.0
_READY: Final = "cdpbridge: worker "
_KEPT_LINES: Final = 12


class WorkerActor:
    """One worker on a node of Ray.

    Args:
        name: Of the actor.
        slots: Browsers at once.
        servers: Addresses where it registers.
    """

    def __init__(self, name: str, slots: int, servers: Sequence[str]) -> None:
        self._name = name
        self._slots = slots
        self._servers = servers
        self._turn = threading.Lock()
        self._worker: str | None = None
        self._failure: str | None = None
        self._said: deque[str] = deque(maxlen=_KEPT_LINES)

    def node(self) -> dict[str, Any]:
        """Return what there is to know of the node; that it is answered says that the actor has been placed."""
        return look_at_node()

    def start(self) -> str:
        """Start the worker, unless that was done, and return its id when it accepts browsers.

        Raises:
            RuntimeError: It has ended instead, with its last words.
        """
        with self._turn:
            if self._worker is None and self._failure is None:
                self._begin()
        if self._failure is not None:
            raise RuntimeError(self._failure)
        assert self._worker is not None
        return self._worker

    def _begin(self) -> None:
        from ray.util import get_node_ip_address  # noqa: PLC0415  # on Ray's nodes only

        address = get_node_ip_address()
        listen = f"[{address}]:0" if ":" in address else f"{address}:0"
        process = subprocess.Popen(  # noqa: S603  # our own program
            [
                *(sys.executable, "-P", "-m", "cdpbridge", "worker", "--owned"),
                # Ray's ports, which its processes open as they like: who reaches one may run programs on the node.
                "--close-user-ports",
                *("--listen", listen, "--slots", str(self._slots), "--name", self._name),
                *("--data-dir", str(_folder(self._name))),
                *(part for server in self._servers for part in ("--server", server)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # The token of Ray stays here: pages that mean harm are opened there.
            env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        errors = threading.Thread(target=self._pass_on, args=(process.stderr,), daemon=True)
        errors.start()
        for line in process.stdout:
            if line.startswith(_READY):
                self._worker = line.removeprefix(_READY).split()[0]
                threading.Thread(target=_end_with, args=(process,), daemon=True).start()
                return
        code = process.wait()
        errors.join(timeout=5)
        self._failure = f"the worker ended with {code}: {' '.join(self._said) or 'it said nothing'}"

    def _pass_on(self, lines: IO[str]) -> None:
        """Write what the worker says where Ray keeps what its actors say."""
        for line in lines:
            self._said.append(line.strip())
            sys.stderr.write(line)
            sys.stderr.flush()


def _end_with(process: subprocess.Popen[str]) -> None:
    """End this process, and so the actor, when the worker has ended: Ray and the engine see that at once."""
    assert process.stdout is not None
    for _ in process.stdout:  # it must not fill up
        pass
    process.wait()
    os._exit(0)


def _folder(name: str) -> Path:
    """Return a folder for this worker alone: a node may have several."""
    import platformdirs  # noqa: PLC0415  # on Ray's nodes only

    given = os.environ.get("CDPBRIDGE_DATA_DIR")
    base = Path(given) if given else Path(platformdirs.user_data_dir("cdpbridge"))
    return base.expanduser() / "workers" / name


def look_at_node() -> dict[str, Any]:
    """Return what the engine and `doctor` want to know of the node on which this runs."""
    from ray.util import get_node_ip_address  # noqa: PLC0415  # on Ray's nodes only

    # What the head was started with counts for all nodes, before their own environment.
    given = _system_config().get(RECONNECT_NAME) or os.environ.get(f"RAY_{RECONNECT_NAME}")
    return {
        "address": get_node_ip_address(),
        "reconnectSeconds": float(given or _RECONNECT_DEFAULT_SECONDS),
        "authentication": os.environ.get("RAY_AUTH_MODE") == "token",
        "secret": bool(os.environ.get("CDPBRIDGE_WORKER_SECRET") or os.environ.get("CDPBRIDGE_CONFIG")),
    }


def _system_config() -> dict[str, Any]:
    """Return the options of `ray start --head --system-config`; Ray has no public way to ask for them."""
    try:
        from ray._private.state import state  # noqa: PLC0415  # as above

        found = state.get_system_config()
    except Exception:  # noqa: BLE001  # another version of Ray may have it elsewhere, or raise what it likes
        return {}
    return found if isinstance(found, dict) else {}
