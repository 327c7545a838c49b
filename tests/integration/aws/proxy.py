"""A small HTTP proxy before the server that stands in for AWS: it lets through, or does harm as it is told."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import SplitResult, urlsplit


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    body: bytes
    key_id: str = ""  # of the credentials that it was signed with

    @property
    def is_creation(self) -> bool:
        return self.method == "POST" and "uploads" in self.path and "uploadId=" not in self.path

    @property
    def is_part(self) -> bool:
        return self.method == "PUT" and "partNumber=" in self.path

    @property
    def is_completion(self) -> bool:
        return self.method == "POST" and "uploadId=" in self.path

    @property
    def is_abortion(self) -> bool:
        return self.method == "DELETE" and "uploadId=" in self.path


@dataclass
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False  # half of the body arrives, and the connection ends


# None: let through; "reset"; "cut": let through, half of the answer; "stall": it is read, and never answered
Harm = Callable[[Asked], "Answer | str | None"]


def error(status: int, code: str, message: str = "told to") -> Answer:
    return Answer(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode())


@dataclass
class Proxy:
    url: str
    harm: Harm = lambda _asked: None
    asked: list[Asked] = field(default_factory=list)
    is_deaf: Callable[[Asked], bool] = lambda _asked: False  # to what is sent, the body not known yet: it is not read
    over: threading.Event = field(default_factory=threading.Event)  # what stalls has an end with the test


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: ClassVar[Proxy]
    behind: ClassVar[SplitResult]

    def handle_one_request(self) -> None:
        with suppress(ConnectionError):
            super().handle_one_request()

    def through(self) -> None:
        if self.headers.get("Expect") == "100-continue" and self.request_version != "HTTP/1.1":
            self.send_response_only(100)
        if self.proxy.is_deaf(Asked(self.command, self.path, b"")):
            self.stall()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        signed = self.headers.get("Authorization", "").partition("Credential=")[2]
        asked = Asked(self.command, self.path, body, signed.partition("/")[0])
        self.proxy.asked.append(asked)
        harm = self.proxy.harm(asked)
        if harm == "stall":
            self.stall()
        elif harm == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()
            self.close_connection = True
        else:
            self.answer(harm if isinstance(harm, Answer) else self.passed_on(body), is_cut=harm == "cut")

    def answer(self, answer: Answer, *, is_cut: bool) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        length = answer.headers.get("Content-Length", str(len(answer.body)))
        self.send_header("Content-Length", length)
        self.end_headers()
        if is_cut:
            self.wfile.write(answer.body[: len(answer.body) // 2])
            self.close_connection = True
        elif self.command != "HEAD":
            self.wfile.write(answer.body)

    def stall(self) -> None:
        self.proxy.over.wait()
        self.close_connection = True

    def passed_on(self, body: bytes) -> Answer:
        conn = http.client.HTTPConnection(self.behind.hostname or "", self.behind.port, timeout=60)
        conn.request(self.command, self.path, body, dict(self.headers))
        got = conn.getresponse()
        return Answer(got.status, got.read(), dict(got.getheaders()))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = through  # noqa: N815  the library's names

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def before(endpoint: str) -> Iterator[Proxy]:
    """A proxy runs before the server at `endpoint`."""
    proxy = Proxy(url="")
    handler = type("Handler", (_Handler,), {"proxy": proxy, "behind": urlsplit(endpoint)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield proxy
    proxy.over.set()
    server.shutdown()
    server.server_close()
