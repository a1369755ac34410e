"""Schemas of the parts of KubeRay's resources that the files of `cluster/deploy` use, as JSON Schema.

KubeRay's own definitions are in no package of the index. These are written from its API reference (version 1.6.2,
ray.io/v1): a field that is not listed here is refused, although KubeRay may have it. Pod templates are validated by
the schema of Kubernetes itself, and groups also by Ray's own reader of a RayCluster.
"""

from typing import Any


def _object(required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required.split(), "additionalProperties": False}


_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
_FLAG = {"type": "boolean"}
_WORDS = {"type": "object", "additionalProperties": _TEXT}
_POD = {"type": "object", "required": ["spec"]}

_META = _object(
    "name namespace", name={"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}, namespace=_TEXT
)

_CLUSTER = _object(
    "headGroupSpec rayVersion",
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    authOptions=_object("mode", mode={"enum": ["token", "disabled"]}, secretName=_TEXT),
    enableInTreeAutoscaling=_FLAG,
    autoscalerOptions=_object(
        "", idleTimeoutSeconds=_COUNT, upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]}
    ),
    headGroupSpec=_object("template", rayStartParams=_WORDS, template=_POD),
    workerGroupSpecs={
        "type": "array",
        "items": _object(
            "groupName template minReplicas maxReplicas",
            groupName=_TEXT, replicas=_COUNT, minReplicas=_COUNT, maxReplicas=_COUNT, rayStartParams=_WORDS,
            template=_POD,
        ),
    },
)  # fmt: skip


def _resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    version = {"const": "ray.io/v1"}
    return _object("apiVersion kind metadata spec", apiVersion=version, kind={"const": kind}, metadata=_META, spec=spec)


SCHEMAS = {
    "RayCluster": _resource("RayCluster", _CLUSTER),
    "RayJob": _resource(
        "RayJob",
        _object(
            "entrypoint rayClusterSpec",
            entrypoint=_TEXT,
            submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
            backoffLimit=_COUNT,
            shutdownAfterJobFinishes=_FLAG,
            ttlSecondsAfterFinished=_COUNT,
            rayClusterSpec=_CLUSTER,
        ),
    ),
}
