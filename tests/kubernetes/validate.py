#!/usr/bin/python3
"""Holds what "fairslice export kubernetes" writes to the schemas of every version of Kubernetes that
kubernetes-validate has, strictly; each patch as kubectl applies it to the manifests of tests/kubernetes/manifests and
of the files that are named. The kubelet's drop-in is held to the fields of its API.

tests/prepare test installs kubernetes-validate into target/tools."""

import copy
import functools
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
TOOLS = HERE.parents[1] / "target/tools/kubernetes-validate"
sys.path.insert(0, str(TOOLS))
try:
    import yaml
    from kubernetes_validate import utils
except ImportError as error:
    sys.exit(f"validate.py: {error}: run tests/prepare test, which installs it into {TOOLS}")

FIELDS = HERE / "kubelet-1.36.fields"
WORKLOADS = ["Deployment", "StatefulSet", "DaemonSet"]
OPTIONS = {"none", "pods", "system-reserved", "system-reserved-compressible", "kube-reserved",
           "kube-reserved-compressible"}
SUFFIXES = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}

# Of the same few files, which it reads each time.
utils.schema_contents = functools.lru_cache(maxsize=None)(utils.schema_contents)


def documents(file: Path) -> list[dict]:
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


def quantity(text) -> float:
    number, suffix = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text)).groups()
    return float(number) * SUFFIXES[suffix]


def merged(base, patch):
    """A strategic merge patch, as far as these go: containers by their names, and null takes away."""
    if isinstance(base, dict) and isinstance(patch, dict):
        result = copy.deepcopy(base)
        for key, value in patch.items():
            if value is None:
                result.pop(key, None)
            elif key == "containers":
                by_name = {container["name"]: container for container in result[key]}
                assert all(container["name"] in by_name for container in value), f"no such container: {value}"
                changes = {container["name"]: container for container in value}
                result[key] = [merged(old, changes.get(old["name"], {})) for old in result[key]]
            else:
                result[key] = merged(result.get(key, {} if isinstance(value, dict) else None), value)
        return result
    return copy.deepcopy(patch)


def for_workload(patch: dict, workload: dict, container: str) -> dict:
    """The patch, as it would be if the service were called as this one is."""
    patch = copy.deepcopy(patch)
    patch["kind"], patch["metadata"]["name"] = workload["kind"], workload["metadata"]["name"]
    patch["spec"]["template"]["spec"]["containers"][0]["name"] = container
    return patch


def check_merged(before: dict, after: dict, container: str):
    """Only what the patch is about has changed, and no request is above its limit."""
    def of(workload):
        return next(c for c in workload["spec"]["template"]["spec"]["containers"] if c["name"] == container)
    resources = of(after)["resources"]
    for name, request in resources["requests"].items():
        limit = resources.get("limits", {}).get(name)
        assert limit is None or quantity(request) <= quantity(limit), f"{name}: {request} of {limit}"
    for workload in (before, after):
        workload["spec"]["template"]["spec"].pop("priorityClassName", None)
    ours, theirs = of(after).pop("resources"), of(before).pop("resources", {})
    assert before == after, "something else has changed"
    for kind in ("requests", "limits"):
        kept = {name for name in theirs.get(kind, {}) if name not in ("cpu", "memory")}
        assert kept <= set(ours.get(kind, {})), f"{kept} has gone"


def check_priority_classes(file: Path):
    classes = documents(file)
    for one in classes:
        assert one["kind"] == "PriorityClass" and -(2**31) <= one["value"] <= 10**9, one
        for version in utils.all_versions():
            utils.validate(one, version, strict=True)
    return {one["metadata"]["name"] for one in classes}


def check_kubelet(file: Path):
    lines = [line.split() for line in FIELDS.read_text().splitlines() if not line.startswith("#")]
    types = {"apiVersion": "string", "kind": "string", **dict(lines)}
    [config] = documents(file)
    assert (config["apiVersion"], config["kind"]) == ("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration")
    for name, value in config.items():
        assert name in types, f"KubeletConfiguration has no {name}"
        match types[name]:
            case "string":
                assert isinstance(value, str), name
            case "[]string":
                assert isinstance(value, list) and all(isinstance(word, str) for word in value), name
            case "map[string]string":
                assert all(isinstance(word, str) for pair in value.items() for word in pair), name
            case other:
                sys.exit(f"validate.py: {name} is a {other}, which it does not know")
    enforced = set(config["enforceNodeAllocatable"])
    assert enforced <= OPTIONS and "pods" in enforced and config["systemReservedCgroup"].startswith("/")
    for name, amount in config["systemReserved"].items():
        assert name in ("cpu", "memory") and quantity(amount) > 0, name
    return quantity(config["systemReserved"]["cpu"])


def check_export(case: Path, workloads: list[dict]) -> int:
    expected = case / "expected"
    files = {file.name: file for file in expected.iterdir()} if expected.exists() else {}
    patches = [documents(file)[0] for name, file in sorted(files.items()) if name.startswith("patch-")]
    if not patches:
        assert not files, f"{case}: {sorted(files)} without a service"
        return 0
    classes = check_priority_classes(files["priority-classes.yaml"])
    reserved = check_kubelet(files["50-fairslice.conf"])
    asked = sum(quantity(patch["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"])
                for patch in patches)
    assert abs(asked + reserved - 16) < 1e-6, f"{case}: {asked} and {reserved} of 16 CPUs"
    checked = 0
    for patch in patches:
        assert patch["spec"]["template"]["spec"]["priorityClassName"] in classes, patch
        for workload in workloads:
            container = workload["spec"]["template"]["spec"]["containers"][-1]["name"]
            after = merged(workload, for_workload(patch, workload, container))
            for version in utils.all_versions():
                utils.validate(after, version, strict=True)
                checked += 1
            check_merged(copy.deepcopy(workload), after, container)
    return checked


def main(more: list[str]):
    files = sorted((HERE / "manifests").glob("*.yaml")) + [Path(name) for name in more]
    workloads = [one for file in files for one in documents(file) if one.get("kind") in WORKLOADS]
    assert workloads, "no manifest"
    for workload in workloads:
        for version in utils.all_versions():
            utils.validate(workload, version, strict=True)
    cases = sorted(path for path in (HERE.parent / "export").iterdir() if path.is_dir())
    checked = {case.name: check_export(case, workloads) for case in cases}
    assert sum(checked.values()) > 0, "no patch has been checked"
    versions = utils.all_versions()
    print(f"{len(workloads)} manifests, Kubernetes {versions[0]} to {versions[-1]}: {checked}")


if __name__ == "__main__":
    main(sys.argv[1:])
