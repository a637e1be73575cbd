"""What an alert triggers: a command, a webhook. In the background, with time limits.

A hook that fails is reported on stderr, one that hangs is ended, and too many are left out.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import orjson

import eventlog

from ..core.runs import Refusal
from ..core.table import print, printable

TRIES = 3
WAITING_MAX = 100  # alerts whose hooks are still to run; more are left out
PREFIX = "EVENTLOG_ALERT_"
VARIABLES = ("rule", "state", "run", "path", "text", "t", "session", "iter")
"""The fields of an alert that the command gets as variables, too: EVENTLOG_ALERT_RULE, ..."""
_TEXT_MAX = 10_000  # of each variable: what is too long for the kernel would stop the command


def add_flags(command: argparse.ArgumentParser) -> None:
    """--on-alert and --webhook."""
    command.add_argument(
        "--on-alert",
        metavar="CMD",
        help="run this shell command at an alert, with the alert as JSON on stdin",
    )
    command.add_argument("--webhook", metavar="URL", help="POST the alert to this URL, as JSON")


class Hooks:
    """A command and a web address that get each alert."""

    def __init__(
        self, command: str | None = None, url: str | None = None, timeout_s: float = 10.0
    ) -> None:
        """
        Raises:
            Refusal: the address is none of http or https.
        """
        if url is not None and (urlsplit(url).scheme not in ("http", "https")):
            raise Refusal(f"--webhook {url}: it must begin with http:// or https://")
        self.command, self.url, self.timeout_s = command, url, timeout_s
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="hook")
        self._n_waiting = 0
        self._lock = threading.Lock()
        self._end = threading.Event()

    def send(self, alert: Mapping[str, Any]) -> None:
        """Start the hooks for an alert; its texts may be shown in a terminal or in a chat."""
        alert = {k: v if k == "path" else _shown(v) for k, v in alert.items()}
        if self.command:
            self._begin(self._run, alert)
        if self.url:
            self._begin(self._post, alert)

    def close(self) -> None:
        """Wait for the hooks that are running, up to their time limits; nothing is tried again."""
        self._end.set()
        self._pool.shutdown(wait=True)

    def _begin(self, hook: Callable[[Mapping[str, Any]], None], alert: Mapping[str, Any]) -> None:
        with self._lock:
            if self._n_waiting >= WAITING_MAX:
                say(f"{alert['run']}: no hook for {alert['rule']}: {WAITING_MAX} are waiting")
                return
            self._n_waiting += 1
        self._pool.submit(self._finish, hook, alert)

    def _finish(self, hook: Callable[[Mapping[str, Any]], None], alert: Mapping[str, Any]) -> None:
        try:
            hook(alert)
        except Exception as error:  # the guard goes on whatever a hook does
            say(f"a hook failed: {type(error).__name__}: {error}")
        finally:
            with self._lock:
                self._n_waiting -= 1

    def _run(self, alert: Mapping[str, Any]) -> None:
        variables = {PREFIX + key.upper(): _variable(alert.get(key)) for key in VARIABLES}
        process = subprocess.Popen(
            self.command or "",
            shell=True,
            stdin=subprocess.PIPE,
            stdout=sys.__stderr__.fileno() if sys.__stderr__ else subprocess.DEVNULL,
            env=os.environ | variables,
            start_new_session=True,
        )
        try:
            process.communicate(orjson.dumps(alert) + b"\n", timeout=self.timeout_s)
        except subprocess.TimeoutExpired:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            say(f"--on-alert: ended after {self.timeout_s:g} s: {self.command}")
            return
        if process.returncode:
            say(f"--on-alert: exit status {process.returncode}: {self.command}")

    def _post(self, alert: Mapping[str, Any]) -> None:
        headers = {"Content-Type": "application/json", "User-Agent": "runs-guard"}
        why: Exception | None = None
        for trial in range(TRIES):
            if trial and self._end.wait(2.0**trial / 2):
                break
            request = urllib.request.Request(self.url or "", orjson.dumps(alert), headers)
            try:
                self._fetch(request)
                return
            except urllib.error.HTTPError as error:
                error.close()
                why = error
                if error.code < 500 and error.code != 429:
                    break  # the receiver understood it and refused
            except OSError as error:
                why = error
        say(f"--webhook {_without_path(self.url or '')}: {why}")

    def _fetch(self, request: urllib.request.Request) -> None:
        """One POST; the response is read within the time limit and ignored."""
        until = time.monotonic() + self.timeout_s
        with urllib.request.urlopen(request, timeout=self.timeout_s) as answer:
            while time.monotonic() < until and answer.read(1 << 16):
                pass


def say(line: str) -> None:
    """A line on stderr; the address of a webhook or a command may hold a credential."""
    print(eventlog.mask_text(line), file=sys.stderr, flush=True)


def _without_path(url: str) -> str:
    """An address without its path and query, which may hold a secret token."""
    return str(eventlog.mask({"webhook": url})["webhook"])


def _shown(value: Any) -> Any:
    return printable(value, keep="\n") if isinstance(value, str) else value


def _variable(value: Any) -> str:
    return "" if value is None else str(value).replace("\0", "")[:_TEXT_MAX]
