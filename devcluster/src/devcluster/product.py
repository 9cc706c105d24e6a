"""Puts pdfjob on the cluster with its Helm chart, takes it off again, and shows it at work."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .errors import DevclusterError
from .progress import note, step

RELEASE: Final = "pdfjob"
NAMESPACE: Final = "pdfjob-system"
DEMO_NAMESPACE: Final = "pdfjob-demo"
DEMO_JOB: Final = "demo"
_RESTRICTED: Final = "pod-security.kubernetes.io/enforce=restricted"
_VALUES: Final = {
    "operator": "operator.image",
    "runner": "runner.image",
    "versitygw": "s3.embedded.image",
}
"""Which value of the chart names which image."""


def install(environment: Mapping[str, str], chart: Path, images: Mapping[str, str], settings: Sequence[str]) -> None:
    """Install or upgrade the release with these images, and wait until the operator is ready.

    Parameters
    ----------
    environment
        Points kubectl and helm at the cluster.
    images
        References by name, as ``devcluster images`` prints them.
    settings
        Further values, each ``key=value`` as Helm's ``--set`` takes them.
    """
    with step(f"namespace {NAMESPACE}"):
        _namespace(environment, NAMESPACE)
    command = ["helm", "upgrade", "--install", RELEASE, str(chart), "-n", NAMESPACE, "--wait", "--timeout", "180s"]
    command.append("--take-ownership")  # of CRDs that an earlier release, or a test, left
    for name, value in _VALUES.items():
        if name in images:
            repository, tag = images[name].rsplit(":", 1)
            command += ["--set", f"{value}.repository={repository}", "--set-string", f"{value}.tag={tag}"]
    for setting in settings:
        command += ["--set", setting]
    # A helm that was killed half way leaves a mark that makes every later one refuse.
    pending = f"owner=helm,name={RELEASE},status in (pending-install,pending-upgrade,pending-rollback)"
    _run(environment, ["kubectl", "delete", "secret", "-n", NAMESPACE, "-l", pending], quiet=True)
    with step("helm upgrade --install: operator, S3, CRDs"):
        _run(environment, command)


def uninstall(environment: Mapping[str, str]) -> None:
    """Take everything off: PdfJobs, then the operator, then the CRDs, then the namespace."""
    with step("helm uninstall: PdfJobs end first, then the operator"):
        _run(environment, ["helm", "uninstall", RELEASE, "-n", NAMESPACE, "--ignore-not-found", "--wait"])
    with step("CRDs and namespaces"):
        names = ["pdfjobs.pdfjob.dev", "pdfchunks.pdfjob.dev", "creditaccounts.pdfjob.dev"]
        _run(environment, ["kubectl", "delete", "crd", *names, "--ignore-not-found"])
        _run(environment, ["kubectl", "delete", "namespace", NAMESPACE, DEMO_NAMESPACE, "--ignore-not-found"])


def prepare_demo(environment: Mapping[str, str]) -> None:
    """Make the demo's namespace, and remove what an earlier run left there."""
    _namespace(environment, DEMO_NAMESPACE)
    with step(f"removing the demo of an earlier run, in namespace {DEMO_NAMESPACE}"):
        _run(environment, ["kubectl", "delete", "pdfjob", DEMO_JOB, "-n", DEMO_NAMESPACE, "--ignore-not-found"])


def demo(
    environment: Mapping[str, str], plugin: Path, document: Path, language: str, spec: Mapping[str, Any] | None = None
) -> None:
    """Submit a document, show its progress live, then its first sentences.

    Parameters
    ----------
    plugin
        The program behind ``kubectl pdfjob``.
    spec
        Further fields of the PdfJob's spec.
    """
    verb = [str(plugin), "submit", str(document), "--name", DEMO_JOB, "-n", DEMO_NAMESPACE, "--language", language]
    with tempfile.TemporaryDirectory() as folder:
        if spec:
            file = Path(folder) / "spec.yaml"
            file.write_text(json.dumps(dict(spec), indent=2))  # JSON is YAML
            note(f"{file}: {json.dumps(dict(spec))}")
            verb += ["--spec", str(file)]
        note("$ kubectl pdfjob " + " ".join(verb[1:]) + " --wait")
        done = subprocess.run([*verb, "--wait"], env=dict(environment), check=False)
    if done.returncode != 0:
        raise DevclusterError(f"the demo's PdfJob did not succeed (exit code {done.returncode}); see above")
    columns = ["-o", "wide"] if spec else []
    _run(environment, ["kubectl", "get", "pdfjobs", "-n", DEMO_NAMESPACE, *columns])


def say_more() -> None:
    """Say where to look further."""
    note("Look further, in this shell:")
    note('  eval "$(make -s env)"')
    for words in (
        f"kubectl describe pdfjob {DEMO_JOB} -n {DEMO_NAMESPACE}",
        f"kubectl get pdfchunks -n {DEMO_NAMESPACE}",
        f"kubectl pdfjob status {DEMO_JOB} -n {DEMO_NAMESPACE}",
        f"kubectl pdfjob results {DEMO_JOB} -n {DEMO_NAMESPACE} --format txt -o {DEMO_JOB}.txt",
    ):
        note(f"  {words}")


def _namespace(environment: Mapping[str, str], name: str) -> None:
    """Make a namespace that enforces Pod Security ``restricted``, if it is not there."""
    made = subprocess.run(
        ["kubectl", "create", "namespace", name], env=dict(environment), capture_output=True, text=True, check=False
    )
    if made.returncode != 0 and "AlreadyExists" not in made.stderr:
        raise DevclusterError(f"namespace {name} cannot be made: {made.stderr.strip()}")
    _run(environment, ["kubectl", "label", "namespace", name, _RESTRICTED, "--overwrite"], quiet=True)


def _run(environment: Mapping[str, str], command: Sequence[str], *, quiet: bool = False) -> None:
    done = subprocess.run(
        command, env=dict(environment), stdout=subprocess.DEVNULL if quiet else sys.stderr, check=False
    )
    if done.returncode != 0:
        raise DevclusterError(f"`{' '.join(command)}` failed with exit code {done.returncode}; its words are above")
