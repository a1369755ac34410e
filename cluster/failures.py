"""Failures of a worker of a distributed training: which are final, and which a new process may not have."""

import socket
import traceback
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Literal

import torch.distributed as dist

from cluster.devices import GpuError
from cluster.recovery import HOST_MEMORY_ERRORS, ends_process, out_of_memory
from vattn.errors import UserError

#: words in the message of an error that a worker gets from gloo or NCCL, which torch raises as a plain RuntimeError
COMMUNICATION = ("gloo", "NCCL", "ProcessGroup", "Connection closed by peer", "Connection reset by peer")
#: words in the message of such an error when another worker has not answered in time
TIMEOUT = ("timed out", "timeout")

#: words of Ray in an error where a node was lost, or was preempted
NODE_LOST = ("node has died", "node was terminated", "node died", "preempted", "AUTOSCALER_DRAIN")
#: words in an error where the memory of a machine ran out: of Ray, which ended the process, and of the process itself
OUT_OF_MEMORY = ("running low on memory", "memory monitor", "OutOfMemoryError", "MemoryError", *HOST_MEMORY_ERRORS)

#: seconds within which a living node lets another process connect
ANSWER = 2.0

Kind = Literal["user", "final", "halt", "storage", "memory", "hang", "lost", "grows"]


class TrainingError(RuntimeError):
    """A training failed; the message is for the user, or has the traceback of the worker that caused it."""


class WorkerError(RuntimeError):
    """The failure of one worker, in a form that can be sent between processes.

    Args:
        kind: ``user``: the input is wrong. ``final``: any process would raise the error again. ``halt``: a GPU cannot
            be used. ``storage``: a file cannot be read or written. ``memory``: the memory of the GPU is too small.
            ``hang``: another worker did not answer in time. ``lost``: another worker's process ended, or the GPU
            failed; a new process may train on. ``grows``: nothing failed, and there is room for more workers.
        message: what the user reads.
    """

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(kind, message)
        self.kind: Kind = kind
        self.message = message

    def __str__(self) -> str:
        return self.message


def classified(error: Exception, rank: int, timeout: int) -> WorkerError:
    """Return the failure of worker ``rank`` that ``error`` shows; call it while ``error`` is handled.

    Args:
        error: what the training raised.
        rank: number of the worker, from 0.
        timeout: seconds that a worker waits for the others.
    """
    if isinstance(error, OSError):
        return WorkerError("halt" if isinstance(error, GpuError) else "storage", str(error))
    if isinstance(error, UserError):
        return WorkerError("user", str(error))
    if isinstance(error, FloatingPointError):  # the loss: its message says what to do
        return WorkerError("final", str(error))
    text = "".join(traceback.format_exception(error))
    own = f"worker {rank} failed:\n{text}"
    if ends_process(error):
        return WorkerError("lost", own)
    if out_of_memory(error):
        return WorkerError("memory", own)
    message = str(error)
    if isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in message for word in COMMUNICATION)
    ):
        if any(word in message.lower() for word in TIMEOUT):
            return WorkerError(
                "hang",
                f"worker {rank} waited {timeout} s for another worker, which hangs or is far slower; "
                f"the training is not tried again:\n{text}",
            )
        return WorkerError("lost", own)
    return WorkerError("final", own)


def cause_of(error: str, actor: str | None = None) -> Literal["", "node", "memory"]:
    """Return what ended a process: the loss of its node, or too little memory of it; "" for all else.

    Args:
        error: what Ray reports.
        actor: Ray's id of the process. Ray's head declares a node dead only some time after it was lost, so the node is
            asked.
    """
    if any(words in error for words in NODE_LOST):
        return "node"
    if any(words in error for words in OUT_OF_MEMORY):
        return "memory"
    with suppress(Exception):  # the head may not answer
        from ray._private import state

        node = state.actors(actor).get("Address", {}).get("NodeID", "") if actor else ""
        return "node" if lost_nodes([node]) else ""
    return ""


def living_nodes() -> list[str]:
    """Return Ray's ids of the nodes that are alive."""
    import ray

    return [node["NodeID"] for node in ray.nodes() if node["Alive"]]


def lost_nodes(ids: Iterable[str]) -> list[str]:
    """Return which of these nodes are dead, or do not answer."""
    import ray

    known = {node["NodeID"]: node for node in ray.nodes()}
    return [each for each in ids if each in known and _is_lost(known[each])]


def _is_lost(node: dict[str, Any]) -> bool:
    if not node["Alive"]:
        return True
    try:
        with socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), timeout=ANSWER):
            return False
    except OSError:
        return True


def final_result(errors: Iterable[BaseException]) -> dict[str, Any]:
    """Return the result of a training whose workers failed with ``errors``; {} if it should be tried again.

    One failure ends all workers, so an error that is raised again in any process is the cause, and a worker that waited
    for another in vain is not.
    """
    failures = [error for error in errors if isinstance(error, WorkerError)]
    results = (
        ("user", "error"),
        ("halt", "halt"),
        ("storage", "storage"),
        ("memory", "memory"),
        ("final", "error"),
        ("hang", "error"),
    )
    for kind, key in results:
        for failure in failures:
            if failure.kind == kind:
                return {key: failure.message} | ({"user": True} if kind == "user" else {})
    return {}
