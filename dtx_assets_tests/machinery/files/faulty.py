"""A door in front of an S3 server that misbehaves as it is told: refuses, cuts connections, changes what passes."""

import http.client
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from dtx_assets_tests.patience import PATIENCE

PASSED_ON = {"content-length", "content-type", "etag", "last-modified", "content-range", "accept-ranges"}


@dataclass
class Door:
    """What each request meets: `fault(method, path)` gives None, a status, `cut` or `lost` (done, and no answer).

    With a status come the `words` that XML of S3 holds: `Code: Message`.

    `entity_tag` replaces that of every answer, as a store does that encrypts; `spoil` makes it give out other bytes.
    """

    endpoint: str = ""
    fault: Callable[[str, str], str | None] = lambda _method, _path: None
    entity_tag: str | None = None
    spoil: bool = False
    words: str = "SlowDown: Please reduce your request rate."
    requests: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def faulty_door(endpoint: str) -> Iterator[Door]:
    """A Door to the server at `endpoint`; signatures hold, as the host they name is passed on."""
    door = Door()
    host = urlsplit(endpoint).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            with door.lock:
                door.requests.append((self.command, self.path))
                fault = door.fault(self.command, self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if fault and fault.isdecimal():
                code, _, message = door.words.partition(": ")
                content = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
                self._answer(
                    int(fault), {"Content-Type": "application/xml"}, b"" if self.command == "HEAD" else content
                )
                return
            if fault == "cut":
                self.close_connection = True
                return
            inner = http.client.HTTPConnection(host, timeout=PATIENCE)
            try:
                inner.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    inner.putheader(name, value)
                inner.endheaders(body)
                answer = inner.getresponse()
                content = answer.read()
            finally:
                inner.close()
            if fault == "lost":
                self.close_connection = True
                return
            headers = {
                name: value
                for name, value in answer.getheaders()
                if name.lower() in PASSED_ON or name.lower().startswith("x-amz-")
            }
            if door.entity_tag and "partNumber" not in self.path:
                headers = {name: door.entity_tag if name == "ETag" else value for name, value in headers.items()}
                content = re.sub(rb"<ETag>[^<]*<", f"<ETag>{door.entity_tag}<".encode(), content)
            if door.spoil and self.command == "GET" and content:
                content = bytes([content[0] ^ 1]) + content[1:]
            self._answer(answer.status, headers, content)

        def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            if "Content-Length" not in headers or self.command != "HEAD":
                headers["Content-Length"] = str(len(content))
            for name, value in headers.items():
                self.send_header(name, value)
            # Who asked may be gone.
            with suppress(ConnectionError):
                self.end_headers()
                self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        door.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield door
        finally:
            server.shutdown()
            thread.join()
