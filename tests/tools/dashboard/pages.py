"""Servers for tests: the command `runs serve`, or the same in a thread."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson
import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

from tools.dashboard import auth
from tools.dashboard.request import Site
from tools.dashboard.server import server as server_of
from tools.live.folders import Folders

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"


@dataclass
class Serving:
    address: str
    process: subprocess.Popen | None
    folders: Folders | None = None

    @property
    def port(self):
        return urlsplit(self.address).port

    @property
    def memory_bytes(self):
        """The resident memory of the process."""
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def n_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def get(self, path, **headers):
        """Status, headers and body of an answer; `path` is sent as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest("GET", path, skip_host="host" in headers)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()
        finally:
            connection.close()

    def json(self, path, **headers):
        status, _, body = self.get(path, **headers)
        assert status == 200, body
        return orjson.loads(body)

    def rows(self):
        return {row["file"]: row for row in self.json("/api/runs")["runs"]}


@contextlib.contextmanager
def serving_here(*names):
    """The same server in a thread of this process, which starts faster."""
    site = Site(Folders([str(name) for name in names]), auth.host_names("127.0.0.1"))
    server = server_of(site)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Serving(f"http://127.0.0.1:{listening.getsockname()[1]}/", None, site.folders)
        finally:
            server.should_exit = True
            thread.join(timeout=20)
            assert not thread.is_alive()


@contextlib.contextmanager
def serving(*arguments):
    """The command `runs serve`, on a free port unless one is given."""
    port = [] if "--port" in arguments else ["--port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.cli", "serve", *map(str, arguments), *port],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError(process.stderr.read())
        yield Serving(address, process)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            process.stdout.close()
            process.stderr.close()


def until(condition, timeout_s=20):
    """The first true answer of `condition`."""
    give_up = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found or time.monotonic() > give_up:
            assert found
            return found
        time.sleep(0.05)
