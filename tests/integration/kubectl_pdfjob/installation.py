"""An installation of pdfjob as the plugin sees it: a ConfigMap, and a real S3 server behind it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from devcluster.paths import Paths
from kubectl_pdfjob.portforward import forwarded
from tests.support.cluster import environment, kubeconfig, kubectl
from tests.support.product import wait_until

BUCKET = "documents"
ACCESS_KEY = "plugin-test"
SECRET_KEY = "plugin-test-secret"
PLUGIN = Path(sys.executable).with_name("kubectl-pdfjob")


@dataclass(frozen=True)
class S3Server:
    """A versitygw process on this machine."""

    endpoint: str
    s3: Any

    def put(self, key: str, data: bytes) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=data)

    def keys(self, prefix: str) -> list[str]:
        listed = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return [item["Key"] for item in listed]

    def get(self, key: str) -> bytes:
        data: bytes = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return data


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Run versitygw on a free port over ``folder``, with one bucket."""
    port = free_port()
    data, sidecar = folder / "data", folder / "sidecar"
    for path in (data, sidecar):
        path.mkdir(parents=True)
    program = shutil.which("versitygw", path=environment()["PATH"])
    assert program, "versitygw is built by `make cluster`"
    secrets = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
    process = subprocess.Popen(
        [program, "--port", f"127.0.0.1:{port}", "--quiet", "posix", "--sidecar", str(sidecar), str(data)],
        env={**os.environ, **secrets},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        endpoint = f"http://127.0.0.1:{port}"
        s3 = _client(endpoint)
        _make_bucket(s3)
        yield S3Server(endpoint, s3)
    finally:
        process.terminate()
        process.wait(timeout=20)


def _client(endpoint: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
        config=Config(proxies={}, s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


def _make_bucket(s3: Any) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            s3.create_bucket(Bucket=BUCKET)
        except BotoCoreError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def publish(namespace: str, **data: str) -> None:
    """Write the ConfigMap that the chart writes."""
    facts = {
        "bucket": BUCKET,
        "prefix": "pdfjob",
        "region": "us-east-1",
        "endpoint": "",
        "embedded": "false",
        "s3ServiceName": "",
        "s3ServicePort": "",
        "s3ServiceNamespace": "",
        "s3SecretName": "",
        "s3SecretNamespace": "",
        **data,
    }
    labels = {"app.kubernetes.io/name": "pdfjob", "app.kubernetes.io/component": "info"}
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "pdfjob-info", "namespace": namespace, "labels": labels},
        "data": facts,
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(manifest))


def embedded_server(namespace: str) -> None:
    """Run versitygw in the cluster the way the chart does, and publish it; ready when this returns."""
    image = json.loads(Paths.from_environment().images_file.read_text())["versitygw"]
    labels = {"app": "embedded-s3"}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "embedded-keys"},
        "stringData": {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "embedded-s3"},
        "spec": {"selector": labels, "ports": [{"port": 9000, "targetPort": 7070}]},
    }
    keys = {"ROOT_ACCESS_KEY": "accessKey", "ROOT_SECRET_KEY": "secretKey"}
    container = {
        "name": "s3",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["posix", "/data"],
        "env": [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": "embedded-keys", "key": key}}}
            for name, key in keys.items()
        ],
        "readinessProbe": {"tcpSocket": {"port": 7070}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
        ],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "embedded-s3", "labels": labels},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    }
    for item in (secret, service, pod):
        kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(item))
    kubectl("wait", "-n", namespace, "--for=condition=Ready", "--timeout=120s", "pod/embedded-s3")
    with tunnel(namespace) as server:
        _make_bucket(server.s3)
    publish(
        namespace,
        embedded="true",
        s3ServiceName="embedded-s3",
        s3ServicePort="9000",
        s3ServiceNamespace=namespace,
        s3SecretName="embedded-keys",
        s3SecretNamespace=namespace,
    )


@contextmanager
def tunnel(namespace: str) -> Iterator[S3Server]:
    """Reach the embedded server with the rights of the tests."""
    program = shutil.which("kubectl", path=environment()["PATH"]) or "kubectl"
    command = ["env", f"KUBECONFIG={kubeconfig()}", program, "port-forward", "-n", namespace]
    with forwarded([*command, "--address", "127.0.0.1", "service/embedded-s3", ":9000"]) as port:
        endpoint = f"http://127.0.0.1:{port}"
        yield S3Server(endpoint, _client(endpoint))


def user_kubeconfig(namespace: str, path: Path, *rules: Mapping[str, Any]) -> Path:
    """Write a kubeconfig of a user who has these rights in ``namespace`` and no others."""
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "user"}, "rules": rules}
    kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(role))
    kubectl("create", "serviceaccount", "user", "-n", namespace)
    binding = ("--role=user", f"--serviceaccount={namespace}:user", "-n", namespace)
    kubectl("create", "rolebinding", "user", *binding)
    if rules:  # the API server heeds a role only a moment after it was stored
        kind = f"{rules[0]['resources'][0]}.{rules[0]['apiGroups'][0]}"
        asked = ("auth", "can-i", rules[0]["verbs"][0], kind, f"--as=system:serviceaccount:{namespace}:user")
        wait_until(lambda: kubectl(*asked, "-n", namespace, check=False).returncode == 0, "the user has the rights", 30)
    token = kubectl("create", "token", "user", "-n", namespace).stdout.strip()
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json").stdout)
    config["users"][0]["user"] = {"token": token}
    path.write_text(json.dumps(config))
    return path


def plugin_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a user of the plugin: the tests' cluster, and no AWS settings of this machine."""
    clean = {name: value for name, value in environment().items() if not name.startswith(("AWS_", "PDFJOB_S3_"))}
    nowhere = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
    return {**clean, **nowhere, "AWS_EC2_METADATA_DISABLED": "true", **extra}


KEYS: Mapping[str, str] = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}


def pdfjob(*arguments: str, extra: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the plugin with the user's S3 keys, and ``extra``, in its environment."""
    return subprocess.run(
        [str(PLUGIN), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=plugin_environment({**KEYS, **(extra or {})}),
    )


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
