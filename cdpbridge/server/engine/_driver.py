"""`python -m cdpbridge.server.engine._driver`: the process that speaks with Ray.

A process of its own, since Ray ends the one that has called `ray.init` some time after its head is lost. The first line of standard
input says where Ray is; each further one is a request, answered by one line on standard output. It ends with its standard input.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any, Final

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cdpbridge.server.engine._actor import WorkerActor, look_at_node

__all__: list[str] = []

_RESOURCE: Final = "browser"
_NODE_SECONDS: Final = 30
_MOST_CHARACTERS: Final = 1000


@dataclass(slots=True)
class _Actor:
    """An actor with what was asked of it: both answers come once, whenever that is."""

    handle: Any
    node: Any
    started: Any


class _Driver:
    """The actors of one namespace.

    Args:
        slots: Of each worker.
        servers: Addresses where workers register.
    """

    def __init__(self, slots: int, servers: list[str]) -> None:
        self._slots = slots
        self._servers = servers
        self._actors: dict[str, _Actor] = {}
        self._class = ray.remote(WorkerActor)

    def look(self, names: Iterable[str]) -> dict[str, Any]:  # all requests have one
        """Return every actor that has not ended, also those of an earlier driver."""
        there = set(ray.util.list_named_actors())
        for name in self._actors.keys() - there:
            del self._actors[name]
        for name in there - self._actors.keys():
            try:
                self._actors[name] = _asked(ray.get_actor(name))
            except ValueError:  # it has just ended
                continue
        return {"actors": [found for name in sorted(self._actors) if (found := self._state(name))]}

    def start(self, names: Iterable[str]) -> dict[str, Any]:
        """Start actors; one whose name exists has been started by another server."""
        for name in names:
            options = self._class.options(
                name=name,
                lifetime="detached",
                resources={_RESOURCE: self._slots},
                num_cpus=0,
                # One that is started again would be another worker, and its rentals have ended.
                max_restarts=0,
                max_concurrency=4,
            )
            try:
                self._actors[name] = _asked(options.remote(name, self._slots, self._servers))
            except ValueError:
                continue
        return {}

    def end(self, names: Iterable[str]) -> dict[str, Any]:
        """End actors, with their workers."""
        for name in names:
            self._kill(name)
        return {}

    def withdraw(self, names: Iterable[str]) -> dict[str, Any]:
        """End actors that are still not placed."""
        for name in names:
            actor = self._actors.get(name)
            if actor is not None and not _answered(actor.node):
                self._kill(name)
        return {}

    def nodes(self, names: Iterable[str]) -> dict[str, Any]:  # all requests have one
        """Return what there is to know of each node that takes workers."""
        alive = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get(_RESOURCE)]
        look = ray.remote(num_cpus=0)(look_at_node)
        asked = [
            look.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote()
            for node in alive
        ]
        found = []
        for node, answer in zip(alive, asked, strict=True):
            slots = int(node["Resources"][_RESOURCE])
            try:
                found.append({**ray.get(answer, timeout=_NODE_SECONDS), "slots": slots})
            except RayError as error:
                found.append({"address": node["NodeManagerAddress"], "slots": slots, "error": _words(error)})
        return {"nodes": found, "version": ray.__version__}

    def _state(self, name: str) -> dict[str, Any] | None:
        actor = self._actors[name]
        found: dict[str, Any] = {"name": name, "state": "pending"}
        try:
            if _answered(actor.node):
                found |= {"state": "starting", "node": ray.get(actor.node)}
            if _answered(actor.started):
                found |= {"state": "running", "worker": ray.get(actor.started)}
        except ray.exceptions.RayTaskError as error:
            # Its worker did not start; what it said is in the answer.
            self._kill(name)
            return {"name": name, "state": "failed", "error": _words(error.cause or error)}
        except RayError:
            # It has ended, and its name is free soon.
            del self._actors[name]
            return None
        return found

    def _kill(self, name: str) -> None:
        actor = self._actors.pop(name, None)
        try:
            ray.kill(actor.handle if actor is not None else ray.get_actor(name), no_restart=True)
        except ValueError:  # it has ended
            return


def _asked(handle: Any) -> _Actor:
    return _Actor(handle, handle.node.remote(), handle.start.remote())


def _answered(reference: Any) -> bool:
    done, _ = ray.wait([reference], timeout=0)
    return bool(done)


def _words(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__)[-_MOST_CHARACTERS:]


def _connect(given: Mapping[str, Any]) -> None:
    ray.init(
        address=given["address"],
        namespace=given["namespace"],
        log_to_driver=False,
        configure_logging=False,
    )


def _serve(requests: IO[str], answers: IO[str]) -> None:
    def say(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    given = json.loads(requests.readline())
    try:
        _connect(given)
    except Exception as error:  # noqa: BLE001  # whatever Ray raises is the answer
        say({"error": _words(error)})
        return
    driver = _Driver(given["slots"], given["servers"])
    known: dict[str, Callable[[Iterable[str]], dict[str, Any]]] = {
        "look": driver.look,
        "start": driver.start,
        "end": driver.end,
        "withdraw": driver.withdraw,
        "nodes": driver.nodes,
    }
    say({})
    for line in requests:
        request = json.loads(line)
        try:
            say(known[request["do"]](request.get("names", ())))
        except Exception as error:  # noqa: BLE001  # as above; the next request may succeed
            say({"error": _words(error)})


if __name__ == "__main__":
    # Ray and its libraries print, too.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        _serve(sys.stdin, answers)
    # Ray's own end asks the head, which is perhaps lost.
    os._exit(0)
