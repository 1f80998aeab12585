"""The control port: faults added and removed while a fleet runs. A line of JSON asks, a line of JSON answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from meterbridge.errors import ConfigurationError
from meterbridge.simulator.faults.director import Director
from meterbridge.simulator.faults.script import fault_of
from meterbridge.simulator.server import MeterServer

_HOST: Final = "127.0.0.1"
_LONGEST_LINE: Final = 65_536


class ControlPort:
    """A TCP port on loopback through which a fleet's faults are changed.

    Requests are `{"do": "add", "fault": {…}}`, `{"do": "remove", "fault": NUMBER}`, `{"do": "clear"}`,
    `{"do": "faults"}` and `{"do": "meters"}`; answers have `ok`, and `error` where that is false.

    Args:
        director: who makes the faults happen.
        servers: the fleet's meters.
    """

    def __init__(self, director: Director, servers: list[MeterServer]) -> None:
        self._director = director
        self._servers = servers
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def start(self, port: int) -> None:
        """Listen on loopback; port 0 takes a free one, `port` then says which.

        Raises:
            ConfigurationError: the port cannot be listened on.
        """
        try:
            self._server = await asyncio.start_server(self._serve, _HOST, port, limit=_LONGEST_LINE)
        except OSError as error:
            reason = error.strerror or error
            raise ConfigurationError(f"control port {port} cannot be listened on: {reason}") from None
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
            for client in tuple(self._clients):
                client.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            while line := await reader.readline():
                writer.write(json.dumps(self.answer(line)).encode() + b"\n")
                await writer.drain()
        except (ValueError, ConnectionError):
            # A line without end, or nobody there any more.
            pass
        finally:
            self._clients.discard(writer)
            writer.close()

    def answer(self, line: bytes) -> dict[str, Any]:
        """Do what one line asks; whatever is wrong with it is said in `error`."""
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise ConfigurationError("a request is a JSON object")
            requests: Mapping[object, Callable[[dict[str, Any]], dict[str, Any]]] = {
                "add": self._add,
                "remove": self._remove,
                "clear": self._clear,
                "faults": self._faults,
                "meters": self._meters,
            }
            wanted = request.get("do")
            if not isinstance(wanted, str) or wanted not in requests:
                raise ConfigurationError(f"do is none of {', '.join(map(str, requests))}")
            return {"ok": True, **requests[wanted](request)}
        except (ValueError, RecursionError):
            return {"ok": False, "error": "a request is one line of JSON"}
        except ConfigurationError as error:
            return {"ok": False, "error": str(error)}

    def _add(self, request: dict[str, Any]) -> dict[str, Any]:
        table = request.get("fault")
        if not isinstance(table, dict):
            raise ConfigurationError("fault is a JSON object with a kind")
        return {"fault": self._director.add(fault_of(table))}

    def _remove(self, request: dict[str, Any]) -> dict[str, Any]:
        number = request.get("fault")
        if type(number) is not int:
            raise ConfigurationError("fault is the number that add gave")
        self._director.remove(number)
        return {}

    def _clear(self, request: dict[str, Any]) -> dict[str, Any]:
        for running in self._director.running:
            self._director.remove(running.number)
        return {}

    def _faults(self, request: dict[str, Any]) -> dict[str, Any]:
        return {
            "faults": [
                {
                    "fault": running.number,
                    "meters": list(running.meters),
                    **running.fault.model_dump(mode="json", exclude_defaults=True, exclude={"meters"}),
                }
                for running in self._director.running
            ]
        }

    def _meters(self, request: dict[str, Any]) -> dict[str, Any]:
        meters = []
        for index, (server, behaviour) in enumerate(zip(self._servers, self._director.behaviours, strict=True)):
            now = server.clock()
            active = [a.number for a in behaviour.assigned if a.fault.active(now - a.begins)]
            meters.append(
                {
                    "meter": index,
                    "port": server.port,
                    "powered": server.powered,
                    "connections": server.connections,
                    "active": active,
                    "applied": dict(behaviour.applied),
                }
            )
        return {"meters": meters}
