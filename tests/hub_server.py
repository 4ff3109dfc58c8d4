"""A stand-in for the Hugging Face hub on loopback: one repository for each name, with its files."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer:
    """Serves `files`, by repository and name, as the hub does."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.seen: list[str] = []
        self.tokens: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self, body=True)

            def do_HEAD(self) -> None:
                outer.answer(self, body=False)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler, *, body: bool) -> None:
        path = unquote(handler.path.partition("?")[0]).strip("/")
        self.seen.append(path)
        self.tokens.append(handler.headers.get("Authorization"))
        code, headers, content = self.found(path)
        handler.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(content)), "X-Repo-Commit": COMMIT}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if body:
            handler.wfile.write(content)

    def found(self, path: str) -> tuple[int, dict[str, str], bytes]:
        listing = path.startswith("api/models/")
        parts = path.removeprefix("api/models/").split("/")
        repo, kind, revision, rest = "/".join(parts[:2]), parts[2:3], parts[3:4], "/".join(parts[4:])
        if repo not in self.files:
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        if revision not in (["main"], [COMMIT]):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if listing and kind == ["tree"]:
            told = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in self.files[repo].items()
            ]
            return 200, {"Content-Type": "application/json"}, json.dumps(told).encode()
        if kind == ["resolve"] and rest in self.files[repo]:
            content = self.files[repo][rest]
            return 200, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'}, content
        return 404, {"X-Error-Code": "EntryNotFound"}, b""
