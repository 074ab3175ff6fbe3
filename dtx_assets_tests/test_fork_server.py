"""What pages call `dtx` says and ends as `dtx` by hand, gets its signals, and dies where it is killed."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dtx_assets_tests import fork_server
from dtx_assets_tests.fork_server import COMMAND, look_after
from dtx_assets_tests.pages import serving


def test_a_command_says_and_ends_as_by_hand(tmp_path):
    environment = {**os.environ, "COLUMNS": "90", "DTX_HOME": str(tmp_path / "file" / "below")}
    (tmp_path / "file").touch()
    by_hand = [sys.executable, "-m", COMMAND]
    asks = [sys.executable, "-IS", fork_server.__file__, "ask", str(tmp_path / "at")]
    with serving(tmp_path / "at", tmp_path, environment):
        for arguments, code in ((["run", "--help"], 0), (["status", "--json"], 2)):
            first, second = (
                subprocess.run(
                    [*command, *arguments],
                    cwd=tmp_path,
                    env=environment,
                    input=b"\\q\n",
                    capture_output=True,
                    check=False,
                )
                for command in (by_hand, asks)
            )
            assert first.returncode == code, first.stderr
            assert (second.returncode, second.stdout, second.stderr) == (code, first.stdout, first.stderr)


@contextmanager
def looked_after(program: str) -> Iterator[tuple[socket.socket, int]]:
    """The other end of a shell that does something, and the shell, once it says that it is there."""
    asking, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    told, tells = os.pipe()
    if (process := os.fork()) == 0:
        asking.close()
        if (command := os.fork()) == 0:
            os.dup2(tells, 1)
            os.execv("/bin/sh", ["sh", "-c", program])
        look_after(command, asked)
    asked.close()
    os.close(tells)
    with asking, os.fdopen(told) as said:
        try:
            yield asking, int(said.readline())
        finally:
            asking.close()
            os.waitpid(process, 0)
            assert said.read() == "", "nothing holds its output"


SLEEPS = "echo $$; exec sleep 600"


@pytest.mark.parametrize(
    ("program", "number", "code"),
    [
        ("echo $$; exit 3", None, 3),
        ("echo $$; kill -KILL $$", None, -signal.SIGKILL),
        (SLEEPS, signal.SIGTERM, -signal.SIGTERM),
        ("trap 'kill $!; exit 7' INT; sleep 600 & echo $$; wait", signal.SIGINT, 7),
    ],
)
def test_who_asked_is_told_how_a_command_ended_and_hands_on_signals(program, number, code):
    with looked_after(program) as (asking, _):
        if number:
            asking.send(bytes([number]))
        assert asking.recv(16) == str(code).encode()


def test_a_command_dies_with_who_asked():
    with looked_after(SLEEPS) as (asking, command):
        asking.close()
    with pytest.raises(ProcessLookupError):
        os.kill(command, 0)


def test_who_asked_ends_as_the_command_does(tmp_path):
    """By the same signal, where it was one."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(str(tmp_path / "at"))
    listening.listen()
    with listening:
        for code in (0, 3, -signal.SIGTERM, -signal.SIGKILL):
            asks = [sys.executable, "-IS", fork_server.__file__, "ask", str(tmp_path / "at"), "run"]
            with subprocess.Popen(asks) as process:
                asked, _ = listening.accept()
                with asked:
                    _, streams, _, _ = socket.recv_fds(asked, fork_server.MOST, fork_server.STREAMS)
                    for stream in streams:
                        os.close(stream)
                    asked.send(str(code).encode())
                assert process.wait() == code
