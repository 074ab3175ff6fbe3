"""The audit of the packages: what it finds fails, what it cannot look up is said and does not."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from dtx_assets_tests import audit

BAD = {"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"]}]}
GOOD = {"name": "b", "version": "2", "vulns": []}
SKIPPED = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "ignored", "code", "says"),
    [
        ([GOOD], {}, 0, "1 packages were looked up, 0 are not known to the service; 0 vulnerabilities"),
        ([BAD, GOOD], {}, 1, "a 1 has the vulnerability PYSEC-1"),
        ([BAD], {"PYSEC-1": "never called"}, 0, "1 vulnerabilities"),
        ([BAD], {"CVE-1": "never called"}, 0, "1 vulnerabilities"),
        ([BAD], {"PYSEC-1": " "}, 1, "ignores PYSEC-1 without a reason"),
        ([GOOD], {"PYSEC-1": "never called"}, 1, "ignores PYSEC-1, which was not found"),
        ([GOOD, SKIPPED], {}, 0, "1 packages were looked up, 1 are not known"),
    ],
)
def test_what_a_report_comes_to(packages, ignored, code, says):
    came_to, said = audit.judge({"dependencies": packages}, ignored)
    assert came_to == code
    assert says in "\n".join(said)


def test_a_service_that_cannot_be_reached_is_said_at_once_and_no_error(capsys):
    before = time.monotonic()
    assert audit.main("http://127.0.0.1:1/pypi") == 0
    assert time.monotonic() - before < audit.SECONDS
    assert "vulnerabilities were not looked up: http://127.0.0.1:1/pypi cannot be reached" in capsys.readouterr().out


@pytest.mark.parametrize(("answer", "told"), [({"info": {}}, "does not tell vulnerabilities"), (None, "HTTPError")])
def test_a_mirror_that_knows_no_vulnerabilities_is_no_proof_of_their_absence(capsys, answer, told):
    class Mirror(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if answer else 404)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Mirror) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert audit.main(f"http://127.0.0.1:{server.server_port}") == 0
        thread.join()
    assert told in capsys.readouterr().out


def test_the_lock_file_is_read():
    lock = (Path(audit.PROJECT) / "requirements.lock").read_text()
    assert len(audit.pinned(lock)) == len([line for line in lock.splitlines() if "==" in line])
