"""Runs `vattn` commands in processes of their own, forked from one that has imported what commands import.

An import of torch, Ray, Optuna and MLflow takes ten CPU seconds, more than most of the searches that tests run.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ray._private.authentication_test_utils import reset_auth_token_state

from search.cli import main

#: imported once, by the process that the others are forked from
MODULES = [
    "search.cli", "search.commands.run", "search.commands.train", "search.commands.export", "search.tuner",
    "search.report.plots.front", "search.report.tracking.tracker", "mlflow", "ray.train.torch", "torch._dynamo",
]  # fmt: skip

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(MODULES)


class Running:
    """A running command, with the interface of `subprocess.Popen` as far as tests need it.

    Args:
        arguments: the words after `vattn`.
        together: write standard output and standard error into one text.
    """

    def __init__(self, arguments: tuple[object, ...], together: bool) -> None:
        self._output = [tempfile.TemporaryFile("w+") for _ in range(1 if together else 2)]  # noqa: SIM115
        files = [file.fileno() for file in self._output]
        # A path, as descriptors are not shared with a process that another one forks.
        paths = [f"/proc/{os.getpid()}/fd/{number}" for number in files]
        self._process = _processes.Process(
            target=_run, args=(list(map(str, arguments)), str(Path.cwd()), dict(os.environ), paths)
        )
        self._process.start()
        assert self._process.pid
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self, timeout: float = 240) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            raise subprocess.TimeoutExpired("vattn", timeout)
        return self._process.exitcode

    def said(self) -> str:
        """Return what it has written to its standard output so far."""
        self._output[0].seek(0)
        return self._output[0].read()

    def communicate(self, timeout: float = 240) -> tuple[str, str]:
        """Wait for the end, and return standard output and standard error, the latter empty if both are together."""
        self.wait(timeout)
        texts = []
        for file in self._output:
            file.seek(0)
            texts.append(file.read())
            file.close()
        return texts[0], texts[1] if len(texts) > 1 else ""


def start(*arguments: object) -> Running:
    """Start a command; its standard output and standard error are one text."""
    return Running(arguments, together=True)


def vattn(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    running = Running(arguments, together=False)
    out, err = running.communicate()
    return subprocess.CompletedProcess(["vattn", *map(str, arguments)], running.wait(), out, err)


def _run(arguments: list[str], folder: str, environment: dict[str, str], paths: list[str]) -> None:
    os.setsid()
    for number, path in enumerate(paths if len(paths) > 1 else paths * 2, start=1):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    reset_auth_token_state()  # the process that this one is forked from has read the way of authentication before
    os.chdir(folder)
    sys.argv = ["vattn", *arguments]
    sys.exit(main(arguments))
