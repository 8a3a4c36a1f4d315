"""MONAI Label's own server and clients, in processes of the environment that `make label-venv` makes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

REPO_ROOT = Path(__file__).resolve().parents[1]
VENV_NAME = os.environ.get("LEFUSION_LABEL_VENV", ".venv-label")
VENV = REPO_ROOT / VENV_NAME
START_S, CALL_S, INSTALL_S = 180, 180, 1200

# Carries out one call of MONAI Label's client for each line it reads.
CLIENT = """
import json, sys
from monailabel.client import MONAILabelClient
client = MONAILabelClient(sys.argv[1], tmpdir=sys.argv[2])
print("ready", flush=True)
for line in sys.stdin:
    method, arguments, named = json.loads(line)
    try:
        answer = {"result": getattr(client, method)(*arguments, **named)}
    except Exception as error:
        answer = {"error": getattr(error, "msg", None) or repr(error)}
    print(json.dumps(answer), flush=True)
"""


class Refused(Exception):
    """What the server answered in place of a result."""


def environment() -> dict[str, str]:
    """Of the processes: their own environment's commands first, nothing of this one's packages, one thread."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH" and "MONAI_" not in key}
    return kept | {"PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


def label_python() -> Path:
    """The environment's Python; it is made where it is missing, and the test skipped where that cannot be done."""
    python = VENV / "bin" / "python"
    if not (VENV / ".stamp").is_file():
        if shutil.which("make") is None:
            pytest.skip("MONAI Label's environment is missing, and make, which makes it, too")
        command = ["make", "label-venv", f"LABEL_VENV={VENV_NAME}", f"PYTHON={sys.executable}"]
        made = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True, timeout=INSTALL_S)
        if made.returncode != 0:
            pytest.skip(f"MONAI Label's environment cannot be made: {(made.stderr.strip().splitlines() or ['?'])[-1]}")
    return python


class Client:
    """MONAI Label's own client in a process of its own, for one server.

    Args:
        address: of the server.
        folder: for the files that it receives.
    """

    def __init__(self, address: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        command = [str(label_python()), "-c", CLIENT, address, str(folder)]
        self.process = subprocess.Popen(
            command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"

    def send(self, method: str, *arguments: Any, **named: Any) -> None:
        """Begins a call; :meth:`receive` waits for its answer."""
        words = [str(value) if isinstance(value, Path) else value for value in arguments]
        named = {key: str(value) if isinstance(value, Path) else value for key, value in named.items()}
        self.process.stdin.write(json.dumps([method, words, named]) + "\n")
        self.process.stdin.flush()

    def receive(self) -> Any:
        """The answer to the call that was sent.

        Raises:
            Refused: with what the server says instead.
        """
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]

    def __call__(self, method: str, *arguments: Any, **named: Any) -> Any:
        """One call of the client."""
        self.send(method, *arguments, **named)
        return self.receive()

    def infer(self, model: str, image: str, label: Path | None = None, **params: Any) -> tuple[Path, dict[str, Any]]:
        """The file and the parameters that a model answers with."""
        file, told = self("infer", model, image, params, label)
        return Path(file), told

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=CALL_S)


@contextmanager
def served(app: Path, studies: Path, folder: Path, conf: Sequence[tuple[str, str]] = ()) -> Iterator[str]:
    """The real server on a free port of this machine; its address.

    Args:
        app: folder of the app.
        studies: folder of the images.
        folder: where its log and sessions go.
        conf: options of the app.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(label_python()), "-m", "monailabel.main", "start_server", "--app", str(app)]
    command += ["--studies", str(studies), "--host", "127.0.0.1", "--port", str(port)]
    command += [word for entry in conf for word in ("--conf", *entry)]
    address, log = f"http://127.0.0.1:{port}", folder / "server.log"
    # Of its own, since the app reads what lies there, and this repository may lie in the machine's.
    temporary = folder / "temporary"
    temporary.mkdir(parents=True, exist_ok=True)
    with log.open("w") as stream:
        process = subprocess.Popen(
            command,
            env=environment() | {"MONAI_LABEL_SESSION_PATH": str(folder / "sessions"), "TMPDIR": str(temporary)},
            cwd=folder,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_for(address, process, log)
            yield address
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
                try:
                    process.wait(timeout=2)  # its scheduler takes up to half a minute to stop
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def _wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/info/", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the server did not start:\n{log.read_text()[-3000:]}")
