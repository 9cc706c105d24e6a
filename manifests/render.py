# ruff: noqa: INP001 - a program, not a module of a package
"""Write ``manifests/pdfjob.yaml``, the install for a plain ``kubectl apply -f``: the chart, rendered by helm.

    python manifests/render.py [FILE]

Hooks are left out: without Helm, the order of an uninstall is the user's (see the head of the file). So is the Secret
of the embedded S3 server: a password that is printed in a repository is none.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from devcluster.gobuild import binary, ensure_built, is_built
from devcluster.paths import Paths
from devcluster.versions import HELM

HERE: Final = Path(__file__).parent
CHART: Final = HERE.parent / "charts" / "pdfjob"
OUTPUT: Final = HERE / "pdfjob.yaml"
NAMESPACE: Final = "pdfjob-system"
KUBE_VERSION: Final = "1.35.0"
"""Only checked against ``kubeVersion`` of the chart."""

_SETTINGS: Final = ("s3.embedded.existingSecret=pdfjob-s3",)

_HEAD: Final = f"""\
# Generated from charts/pdfjob by `make generate`; do not edit.
#
# Install (the first two lines once):
#   kubectl create namespace {NAMESPACE}
#   kubectl -n {NAMESPACE} create secret generic pdfjob-s3 \\
#     --from-literal=accessKey=pdfjob --from-literal=secretKey="$(openssl rand -hex 20)"
#   kubectl apply -f manifests/pdfjob.yaml
#
# Uninstall, in this order, since it is the operator that ends PdfJobs:
#   kubectl delete pdfjobs --all --all-namespaces
#   kubectl delete -f manifests/pdfjob.yaml
#   kubectl delete namespace {NAMESPACE}
#
# For other images, an external S3 or fewer rights use the chart: charts/pdfjob/README.md.
"""


def helm_program() -> str:
    """Return the path of helm: devcluster's where it is built, else the one on PATH, else devcluster's, built now."""
    paths = Paths.from_environment()
    found = shutil.which("helm")
    if found and not is_built(paths, HELM):
        return found
    ensure_built(paths, HELM)
    return str(binary(paths, HELM))


def render() -> str:
    """Return the text of the file."""
    command = [helm_program(), "template", "pdfjob", str(CHART), "--namespace", NAMESPACE, "--no-hooks"]
    command += ["--kube-version", KUBE_VERSION]
    for setting in _SETTINGS:
        command += ["--set", setting]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # What only Helm understands would mislead a reader of this file.
    rendered = re.sub(r"\n    annotations:\n      helm\.sh/resource-policy: keep(?=\n)", "", rendered)
    rendered = re.sub(r"\n  annotations:\n    helm\.sh/resource-policy: keep(?=\n)", "", rendered)
    rendered = re.sub(r"\n *helm\.sh/chart: [^\n]*", "", rendered)
    rendered = rendered.replace("app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: kubectl")
    return _HEAD + rendered


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    target.write_text(render(), encoding="utf-8")
