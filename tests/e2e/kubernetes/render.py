"""Renders kustomizations as far as those in deploy/ go, checks every object against the schemas of the last three Kubernetes versions, and
writes down what it found as JSON: {"yaml": {file: documents}, "rendered": {directory: objects}, "errors": [text]}.

    render.py DEPLOY

Where there is a kubectl with a kustomize of today (5 or newer), its own rendering has to be the same.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jsonpatch
import kubernetes_validate
import yaml

VERSIONS = ("1.35", "1.36", "1.37")
CLUSTER_WIDE = {"Namespace"}
KNOWN = {"apiVersion", "kind", "resources", "components", "patches", "namespace", "images"}


class Unknown(Exception):
    """Something that kustomize may know, and this does not."""


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def render(directory, below=()):
    """The objects of a kustomization; a component's are those below it and its own, patched."""
    (wish,) = documents(directory / "kustomization.yaml")
    if wish.keys() - KNOWN:
        raise Unknown(f"{directory}: {wish.keys() - KNOWN}")
    objects = list(below)
    for name in wish.get("resources", []):
        path = directory / name
        objects += render(path) if path.is_dir() else documents(path)
    for name in wish.get("components", []):
        objects = render(directory / name, objects)
    for patch in wish.get("patches", []):
        target = patch["target"]
        hit = [o for o in objects if o["kind"] == target["kind"] and o["metadata"]["name"] == target["name"]]
        if not hit:
            raise Unknown(f"{directory}: nothing is {target}")
        for each in hit:
            jsonpatch.apply_patch(each, yaml.safe_load(patch["patch"]), in_place=True)
    for each in objects:
        if "namespace" in wish and each["kind"] not in CLUSTER_WIDE:
            each["metadata"]["namespace"] = wish["namespace"]
        containers = each.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
        for container, image in ((c, i) for c in containers for i in wish.get("images", [])):
            if container["image"].split(":")[0] == image["name"]:
                container["image"] = f'{image["newName"]}:{image["newTag"]}'
    return objects


def name(each):
    return f'{each["kind"]}/{each["metadata"]["name"]}'


def kustomize():
    """The program that renders them really, if there is one."""
    kubectl = shutil.which("kubectl")
    said = subprocess.run([kubectl, "version", "--client", "-o", "json"], capture_output=True, text=True).stdout if kubectl else ""
    version = json.loads(said or "{}").get("kustomizeVersion", "")
    return kubectl if version.startswith("v") and int(version[1:].split(".")[0]) >= 5 else None


def complaints(directory, objects):
    for each in objects:
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(each, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{directory}: {name(each)}, Kubernetes {version}: {error.message} at {list(error.path)}"
    names = [name(each) for each in objects]
    yield from (f"{directory}: {twice} twice" for twice in set(names) if names.count(twice) > 1)
    if kubectl := kustomize():
        done = subprocess.run([kubectl, "kustomize", str(directory)], capture_output=True, text=True)
        if done.returncode != 0:
            yield f"{directory}: kubectl: {done.stderr}"
        else:
            theirs = {name(each): each for each in yaml.safe_load_all(done.stdout)}
            ours = {name(each): each for each in objects}
            yield from (f"{directory}: kubectl renders {n} otherwise" for n in theirs.keys() | ours.keys() if theirs.get(n) != ours.get(n))


def main(deploy):
    # A component is no set of objects of its own.
    roots = [path.parent for path in sorted(deploy.glob("kubernetes/**/kustomization.yaml")) if documents(path)[0]["kind"] == "Kustomization"]
    rendered = {str(root.relative_to(deploy)): render(root) for root in roots}
    errors = [text for root, objects in zip(roots, rendered.values()) for text in complaints(root, objects)]
    files = [path for path in sorted(deploy.rglob("*.yaml"))]
    parsed = {str(path.relative_to(deploy)): documents(path) for path in files}
    json.dump({"yaml": parsed, "rendered": rendered, "errors": errors}, sys.stdout)


main(Path(sys.argv[1]).resolve())
