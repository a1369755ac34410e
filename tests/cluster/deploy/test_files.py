"""The files for clusters are valid by the schema of the program that reads each of them; nothing is fetched."""

import copy
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import cluster
from search.cli import build_parser
from search.spec.validation import load
from tests.cluster.deploy.kuberay import SCHEMAS

DEPLOY = Path(cluster.__path__[0]) / "deploy"
ROOT = DEPLOY.parents[1]
#: version of Kubernetes whose schema is used
KUBERNETES = "1.33"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def resources(*kinds: str) -> list[dict[str, Any]]:
    """Return the resources of these kinds in the files for Kubernetes."""
    every = [document for name in ("raycluster.yaml", "rayjob.yaml") for document in documents(name)]
    return [document for document in every if document["kind"] in kinds]


def cluster_spec(resource: dict[str, Any]) -> dict[str, Any]:
    return resource["spec"].get("rayClusterSpec", resource["spec"])


def groups(resource: dict[str, Any]) -> list[dict[str, Any]]:
    spec = cluster_spec(resource)
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def test_rays_launcher_reads_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    (config,) = documents("launcher.yaml")

    validate_config(prepare_config(copy.deepcopy(config)))
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config(config | {"head_node": {}, "unknown": 1}))
    head, worker = (config["available_node_types"][name] for name in ("head", "gpu_worker"))
    assert head["resources"] == {"CPU": 0}
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert worker["min_workers"] == 0 < worker["max_workers"] <= config["max_workers"]
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    assert sum("ray start" in line for line in starts) == 2


@pytest.mark.parametrize("resource", resources("RayCluster", "RayJob"), ids=lambda resource: resource["kind"])
def test_kubernetes_and_ray_read_a_ray_cluster(resource: dict[str, Any]) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    jsonschema.validate(resource, SCHEMAS[resource["kind"]])
    for group in groups(resource):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}} | group["template"]
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    read = _derive_autoscaling_config_from_ray_cr({"metadata": resource["metadata"], "spec": cluster_spec(resource)})
    types = read["available_node_types"]
    assert types["headgroup"]["resources"]["CPU"] == 0
    assert types["gpu"]["resources"] | {"memory": 0} == {"CPU": 8, "GPU": 1, "memory": 0}
    assert (types["gpu"]["min_workers"], types["gpu"]["max_workers"]) == (0, 16)


@pytest.mark.parametrize("resource", resources("RayCluster", "RayJob"), ids=lambda resource: resource["kind"])
def test_an_unknown_field_of_a_ray_resource_is_refused(resource: dict[str, Any]) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    wrong = copy.deepcopy(resource)
    cluster_spec(wrong)["workerGroups"] = []
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMAS[resource["kind"]])
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}} | copy.deepcopy(
        groups(resource)[0]["template"]
    )
    pod["spec"]["container"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_the_other_resources_are_valid_for_kubernetes() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")

    others = resources("PersistentVolumeClaim", "ConfigMap")

    assert {resource["kind"] for resource in others} == {"PersistentVolumeClaim", "ConfigMap"}
    for resource in others:
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)


def test_every_pod_mounts_what_it_names_and_the_shared_folder() -> None:
    claims = {resource["metadata"]["name"] for resource in resources("PersistentVolumeClaim")}
    maps = {resource["metadata"]["name"] for resource in resources("ConfigMap")}
    for resource in resources("RayCluster", "RayJob"):
        for group in groups(resource):
            pod = group["template"]["spec"]
            volumes = {volume["name"]: volume for volume in pod["volumes"]}
            mounts = {mount["name"]: mount["mountPath"] for one in pod["containers"] for mount in one["volumeMounts"]}
            assert mounts.keys() == volumes.keys()
            assert mounts["shared"] == "/shared"
            assert volumes["shared"]["persistentVolumeClaim"]["claimName"] in claims
            assert all(volume.get("configMap", {}).get("name", *maps) in maps for volume in volumes.values())


def test_the_job_on_kubernetes_runs_a_valid_spec_with_a_command_of_this_version(tmp_path: Path) -> None:
    (config_map,), (job,) = resources("ConfigMap"), resources("RayJob")
    mounted = [
        mount["mountPath"] for mount in groups(job)[0]["template"]["spec"]["containers"][0]["volumeMounts"]
        if mount["name"] == "spec"
    ]  # fmt: skip
    (tmp_path / "spec.yaml").write_text(config_map["data"]["spec.yaml"])

    words = shlex.split(job["spec"]["entrypoint"])
    arguments = build_parser().parse_args(words[3:])

    assert words[:3] == ["python", "-m", "search"]
    assert arguments.command == "run"
    assert arguments.resume
    assert arguments.spec == f"{mounted[0]}/spec.yaml"
    assert load(tmp_path / "spec.yaml").output_dir() == Path("/shared/first")


def test_the_compose_file_is_valid_and_publishes_nothing_to_the_network() -> None:
    from check_jsonschema.builtin_schemas import get_builtin_schema

    (compose,) = documents("compose.yaml")
    schema = get_builtin_schema("vendor.compose-spec")

    jsonschema.validate(compose, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(compose | {"service": {}}, schema)
    build = compose["services"]["mlflow"]["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert f" AS {build['target']}\n" in (ROOT / build["dockerfile"]).read_text()
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:5000:5000"]
    assert "password" not in json.dumps(
        [service.get("environment") for service in compose["services"].values()]
    ).replace("/run/secrets/password", "")


def test_the_image_copies_what_exists_and_does_not_run_as_root() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    instructions = [line.split(maxsplit=1) for line in lines]

    known = {"FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in instructions} <= known
    for words in [shlex.split(rest) for name, rest in instructions if name == "COPY"]:
        assert all((ROOT / source).exists() for source in words[:-1])
    for line in [rest for name, rest in instructions if name in ("ENTRYPOINT", "CMD")]:
        assert json.loads(line)
    stages = re.split(r"^FROM .*$", text, flags=re.MULTILINE)[1:]
    run = [stage for stage in stages if "\nCMD " in stage]
    assert len(run) == 2
    assert all("\nUSER vattn\nENTRYPOINT " in stage for stage in run)
    assert not re.search(r"^FROM \S+:latest|^FROM [^:\s]+$", text, re.MULTILINE)
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    assert all(cluster_spec(one)["rayVersion"] == pins["ray"] for one in resources("RayCluster", "RayJob"))


def test_all_files_name_one_image_with_the_version_of_this_project() -> None:
    texts = [(DEPLOY / name).read_text() for name in ("launcher.yaml", "raycluster.yaml", "rayjob.yaml", "Dockerfile")]
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version

    images = {image for text in texts for image in re.findall(r"REGISTRY/\S+", text)}

    assert images == {f"REGISTRY/vattn:{version[1]}"}


@pytest.mark.parametrize("script", sorted(DEPLOY.glob("*.sh")), ids=lambda script: script.name)
def test_shellcheck_finds_nothing_in_a_script(script: Path) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    if not shellcheck.exists():
        pytest.skip("shellcheck is not installed")

    done = subprocess.run([shellcheck, script], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
    assert script.stat().st_mode & 0o111
