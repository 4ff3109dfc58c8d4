"""A web server on loopback that behaves as badly as it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

CONTENT = np.random.default_rng(0).integers(0, 256, 700_000, dtype=np.uint8).tobytes()
Answer = Callable[[BaseHTTPRequestHandler, int], None]


class Server:
    """A web server on loopback; `answers` says for each path what the n-th request gets."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.seen: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                outer.seen.append((path, self.headers.get("Range")))
                count = sum(p == path for p, _ in outer.seen)
                outer.answers.get(path, status(404))(self, count)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


def status(code: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def serve(content: bytes = CONTENT, *, cut: int = 0, ranges: bool = True, stall: float = 0.0, claim: int = 0) -> Answer:
    """Send a file.

    Args:
        cut: the connection breaks after so many bytes, each time, and after `stall` seconds.
        claim: is added to the length that is said.
    """

    def answer(handler: BaseHTTPRequestHandler, _: int) -> None:
        asked = handler.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and ranges else 0
        if start >= len(content):
            return status(416, {"Content-Range": f"bytes */{len(content)}"}, b"no such range")(handler, 0)
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(content) - start + claim))
        handler.end_headers()
        handler.wfile.write(content[start : start + cut] if cut else content[start:])
        handler.wfile.flush()
        threading.Event().wait(stall)
        if cut or claim:
            handler.close_connection = True
            handler.connection.close()
        return None

    return answer


def first(count: int, bad: Answer, good: Answer) -> Answer:
    return lambda handler, n: (bad if n <= count else good)(handler, n)
