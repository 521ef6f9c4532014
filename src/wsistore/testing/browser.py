"""A headless Chromium, driven through its DevTools protocol over a pair of pipes.

Protocol: https://chromedevtools.github.io/devtools-protocol, JSON messages that end with a
zero byte; Chromium reads them from its file descriptor 3 and answers on 4
(``--remote-debugging-pipe``). So no port is opened, and no package is needed.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_START = """
import os, sys
read, write = int(sys.argv[1]), int(sys.argv[2])
read, write = os.dup(read), os.dup(write)
while min(read, write) < 5:
    read, write = os.dup(read), os.dup(write)
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_browser() -> str | None:
    """Return the path of an installed Chromium, None where there is none."""
    found = (shutil.which(program) for program in _PROGRAMS)
    return next((path for path in found if path), None)


class Browser:
    """One page of a headless Chromium that renders WebGL in software; a context manager.

    Parameters
    ----------
    program : str
        The browser; see `find_browser`.
    width, height : int
        Size of the page in CSS px, which are px of its screenshots.
    patience : float
        Seconds to wait for each answer.
    """

    def __init__(
        self, program: str, *, width: int = 900, height: int = 900, patience: float = 60
    ) -> None:
        self._program, self._size, self._patience = program, (width, height), patience
        self._count = 0
        self._session = ""
        self._pending = b""
        self.log: list[str] = []
        """What the page wrote to its console, requests that failed included."""

    def __enter__(self) -> Self:
        self._home = TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        theirs, self._out = os.pipe()
        self._in, their_out = os.pipe()
        command = [sys.executable, "-c", _START, str(theirs), str(their_out), self._program]
        self._process = subprocess.Popen(  # noqa: S603 (the program is the caller's)
            [*command, *self._options()],
            pass_fds=(theirs, their_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(their_out)
        try:
            self._attach()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._out)  # which ends it
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        self._home.cleanup()

    def _options(self) -> list[str]:
        width, height = self._size
        options = [
            "--headless=new",
            "--remote-debugging-pipe",
            f"--user-data-dir={self._home.name}",
            f"--window-size={width},{height}",
            "--use-gl=angle",
            "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader",
            "--no-first-run",
            "--disable-extensions",
            "--disable-background-networking",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ]
        if os.geteuid() == 0:  # its sandbox refuses root
            options.append("--no-sandbox")
        return [*options, "about:blank"]

    def _attach(self) -> None:
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        width, height = self._size
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Go to a page."""
        self.call("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """Return what an expression gives in the page; a promise is waited for.

        Raises
        ------
        RuntimeError
            If it throws.
        """
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"the page says: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, condition: str, seconds: float = 60) -> None:
        """Wait until an expression holds in the page.

        Raises
        ------
        TimeoutError
            If it does not within the time; the console's lines are told.
        """
        until = time.monotonic() + seconds
        while not self.evaluate(f"!!({condition})"):
            if time.monotonic() > until:
                raise TimeoutError(f"no {condition} within {seconds} s; console: {self.log}")
            # The page draws meanwhile; half a frame of it is enough between two questions.
            self.evaluate("new Promise(done => setTimeout(done, 50))")

    def screenshot(self, path: str | os.PathLike[str]) -> None:
        """Write what the page shows as a PNG file."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result.

        Raises
        ------
        RuntimeError
            If the browser refuses it, or has ended.
        TimeoutError
            If there is no answer in time.
        """
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._send(json.dumps(message).encode() + b"\0")
        until = time.monotonic() + self._patience
        while True:
            answer = self._receive(until)
            if answer.get("id") != self._count:
                self._note(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            else:
                result: dict[str, Any] = answer["result"]
                return result

    def _send(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._out, data) :]

    def _receive(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._in], [], [], max(0, until - time.monotonic()))
            if not ready:
                raise TimeoutError(f"the browser did not answer within {self._patience} s")
            piece = os.read(self._in, 1 << 20)
            if not piece:
                raise RuntimeError(f"the browser ended: exit code {self._process.poll()}")
            self._pending += piece
        line, _, self._pending = self._pending.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        """Keep what tells why a page shows nothing."""
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.consoleAPICalled":
                words = (str(arg.get("value", arg.get("description"))) for arg in params["args"])
                self.log.append(f"{params['type']}: {' '.join(words)}")
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.log.append(f"exception: {details.get('exception', details)}")
            case "Log.entryAdded":
                entry = params["entry"]
                self.log.append(f"{entry['level']}: {entry['text']} {entry.get('url', '')}")
            case "Network.loadingFailed":
                self.log.append(f"request failed: {params.get('errorText')}")
            case _:
                pass
