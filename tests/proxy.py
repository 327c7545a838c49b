"""A TCP proxy between the program and its server, which can be told to misbehave."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CHUNK = 65536


class Proxy:
    """Passes on what comes, unless told otherwise; its target may change, as an address does in a failover.

    stall: connections stay open, nothing is passed on, new ones hang. drop: the same, but what is sent meanwhile is
    lost, so these connections are reset once all is well again, as by a router that has forgotten them. cut:
    connections are reset, new ones are reset at once. slow: so many bytes a second.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = threading.Event()
        self._open.set()
        self._refuses = self._loses = False
        self._bytes_per_s: float | None = None
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._stopped = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def stall(self) -> None:
        self._open.clear()

    def drop(self) -> None:
        self._loses = True

    def cut(self) -> None:
        self._refuses = True
        self._reset_all()

    def slow(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s

    def heal(self) -> None:
        if self._loses:
            self._reset_all()
        self._refuses, self._loses, self._bytes_per_s = False, False, None
        self._open.set()

    def lead_to(self, target: tuple[str, int]) -> None:
        """The address belongs to another server now; connections to the former are gone."""
        self.target = target
        self._reset_all()

    def stop(self) -> None:
        self._stopped = True
        self._open.set()
        self._listener.close()
        self._reset_all()

    def _accept(self) -> None:
        while not self._stopped:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._open.wait()
        if self._refuses:
            _reset(client)
            return
        try:
            server = socket.create_connection(self.target, timeout=5)
        except OSError:
            _reset(client)
            return
        server.settimeout(None)
        with self._lock:
            self._sockets |= {client, server}
        for one, other in ((client, server), (server, client)):
            threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(_CHUNK if self._bytes_per_s is None else 1024):
                self._open.wait()
                if self._loses:
                    continue
                if self._bytes_per_s is not None:
                    time.sleep(len(data) / self._bytes_per_s)
                other.sendall(data)
        with self._lock:
            self._sockets -= {one, other}
        for ended in (one, other):
            with suppress(OSError):
                ended.shutdown(socket.SHUT_RDWR)
            ended.close()

    def _reset_all(self) -> None:
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for one in sockets:
            _reset(one)


def _reset(one: socket.socket) -> None:
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@contextmanager
def proxied(host: str, port: int) -> Iterator[Proxy]:
    proxy = Proxy((host, port))
    try:
        yield proxy
    finally:
        proxy.stop()
