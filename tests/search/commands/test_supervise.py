"""A search whose process is killed goes on in another one. A stub of `search` is killed here."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import search.commands.supervise as module
from search.commands.supervise import supervise
from search.ledger.file import NAME

#: code of the stub: its n-th process does the n-th word of `plan`; a + before it adds a line to the ledger
MAIN = """
import os, signal, sys, time
with open("calls", "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
done = len(open("calls").readlines())
step = open("plan").read().split()[done - 1]
if step.startswith("+"):
    with open("out/ledger.jsonl", "a") as ledger:
        ledger.write('{"event":"report","time":0}\\n')
step = step.lstrip("+")
if step == "resumed":
    open("out/ledger.jsonl", "a").write('{"event":"resumed","time":0}\\n')
    step = "killed"
if step == "_Exit":
    os._exit(1)
if step == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if step == "waits":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(230))
    open("ready", "w").close()
    time.sleep(60)
sys.exit(int(step) + int(os.environ["VATTN_STATUS_OFFSET"]))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "__init__.py").touch()
    (tmp_path / "search" / "__main__.py").write_text(MAIN)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(module, "PAUSE", 0.0)
    return tmp_path


@pytest.mark.parametrize(
    ("plan", "status", "calls"),
    [
        ("0", 0, ["run s"]),
        ("2", 2, ["run s"]),
        ("130", 130, ["run s"]),
        ("1", 1, ["run s"]),
        # Ray ends a process by itself. Then the head may not be there yet.
        ("+_Exit 0", 0, ["run s", "run s --resume"]),
        ("+_Exit 2 2", 1, ["run s", "run s --resume", "run s --resume"]),
        # A resume alone is no progress.
        ("+killed resumed resumed 0", 1, ["run s", "run s --resume", "run s --resume"]),
        # Without a ledger there is nothing to resume.
        ("killed 0", 0, ["run s", "run s"]),
        ("+killed 0", 0, ["run s", "run s --resume"]),
        # One restart without progress is allowed, and each new line of the ledger allows one more.
        ("+killed killed killed 0", 1, ["run s", "run s --resume", "run s --resume"]),
        ("+killed killed +killed killed 0", 0, ["run s"] + ["run s --resume"] * 4),
    ],
)
def test_a_killed_process_is_followed_by_one_that_resumes(
    project: Path, plan: str, status: int, calls: list[str]
) -> None:
    (project / "plan").write_text(plan)

    assert supervise(["run", "s"], project / "out", restarts=1) == status
    assert (project / "calls").read_text().splitlines() == calls
    assert NAME == "ledger.jsonl"


def test_a_signal_is_passed_on_and_no_process_follows(project: Path) -> None:
    (project / "plan").write_text("waits")
    root = Path(module.__file__).parents[2]
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r}); from pathlib import Path\n"
        "from search.commands.supervise import supervise\n"
        "sys.exit(supervise(['run', 's'], Path('out'), 3))"
    )
    watching = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": ""})
    until = time.monotonic() + 30
    while not (project / "ready").exists():
        assert time.monotonic() < until
        time.sleep(0.02)

    watching.send_signal(signal.SIGTERM)

    assert watching.wait(30) == 130
    assert len((project / "calls").read_text().splitlines()) == 1
