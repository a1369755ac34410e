"""Stand-ins for the programs of a cluster, as scripts in a folder for PATH; hosts are processes of this machine."""

import os
import sys
from pathlib import Path

#: Slurm's `srun`: it runs the command here, with the node of ``--nodelist`` in the log
SRUN = """
for word in "$@"; do
    case $word in
        --nodelist=*) node=${word#*=} ;;
        --*) ;;
        *) break ;;
    esac
    shift
done
echo "srun $node $*" >> "$LOG"
exec "$@"
"""
SCONTROL = """
echo "scontrol $*" >> "$LOG"
[ "$1" != show ] || tr , '\\n' <<<"$3"
"""
#: it runs the command here as a login shell would, with a home folder for each host
SSH = """
while [ "$1" = -o ]; do shift 2; done
host=$1
shift
echo "ssh $host $*" >> "$LOG"
mkdir -p "$HOMES/$host"
HOME="$HOMES/$host" exec bash -c "$*"
"""
#: Ray's command: `ray start --block` runs until it is ended
RAY = """
echo "ray $* token=$(cat "$RAY_AUTH_TOKEN_PATH")" >> "$LOG"
case "$1 $*" in
    start*--head*) exec "$PYTHON" -c '
import socket, sys
port = next(word.split("=")[1] for word in sys.argv[1:] if word.startswith("--port="))
with socket.create_server(("127.0.0.1", int(port))) as server:
    while True:
        server.accept()
' "$@" ;;
    start*) exec sleep 600 ;;
esac
"""
#: `python`, of which the scripts ask only to wait for nodes or to make a token
PYTHON = """
case "$*" in
    *secrets*) exec "$PYTHON" "$@" ;;
    *) echo "nodes $*" | tail -1 >> "$LOG" ;;
esac
"""
#: the search: it ends with the status in the file ``status``, or with 130 by TERM
VATTN = """
echo "vattn $*" >> "$LOG"
trap 'echo "vattn TERM" >> "$LOG"; kill $!; exit 130' TERM
while [ ! -f "$STATUS" ]; do sleep 0.1 & wait $!; done
exit "$(cat "$STATUS")"
"""


def install(folder: Path, **scripts: str) -> None:
    """Write executable scripts into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in scripts.items():
        file = folder / name
        file.write_text(f"#!/usr/bin/env bash\n{text}")
        file.chmod(0o755)


def environment(folder: Path, **variables: object) -> dict[str, str]:
    """Return the environment of a recipe with its programs in ``folder / "bin"`` and its log in ``folder / "log"``."""
    return os.environ | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "LOG": str(folder / "log"), "HOME": str(folder / "home"),
        "HOMES": str(folder / "homes"), "STATUS": str(folder / "status"), "PYTHON": sys.executable,
        "HEAD_IP": "127.0.0.1",
    } | {name: str(value) for name, value in variables.items()}  # fmt: skip
