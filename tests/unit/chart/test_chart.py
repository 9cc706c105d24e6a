"""The Helm chart: lint, every combination of values renders, wrong values are refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from manifests.render import CHART, OUTPUT
from manifests.render import render as render_plain
from tests.unit.chart.rendering import Rendered, helm, refusal, render

EXTERNAL: dict[str, Any] = {
    "s3": {
        "embedded": {"enabled": False},
        "bucket": "books",
        "endpoint": "https://s3.example.com",
        "existingSecret": "s3",
    }
}
COMBINATIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "external S3": EXTERNAL,
    "external S3 by role": {"s3": {"embedded": {"enabled": False}, "bucket": "books"}},
    "two namespaces": {"watchNamespaces": ["team-a", "team-b"]},
    "emptyDir": {"s3": {"embedded": {"persistence": {"enabled": False}, "emptyDirSizeLimit": "1Gi"}}},
    "own claim": {"s3": {"embedded": {"persistence": {"existingClaim": "disk"}}}},
    "CRDs by others": {"crds": {"install": False}},
    "nothing left": {"crds": {"keep": False}},
    "no hook": {"uninstall": {"deletePdfJobs": False}},
    "own account": {"serviceAccount": {"create": False, "name": "mine"}},
    "no policies": {"networkPolicy": {"enabled": False}, "rbac": {"aggregate": False}},
    "three operators": {"operator": {"replicas": 3}},
    "no leader election": {"leaderElection": {"enabled": False}},
    "everything set": {
        "monitoring": {
            "rules": {"enabled": True, "labels": {"release": "prometheus"}},
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "interval": "15s"},
        },
        "imagePullSecrets": ["registry"],
        "operator": {
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"podAntiAffinity": {}},
            "podLabels": {"team": "a"},
            "podAnnotations": {"note": "b"},
            "priorityClassName": "high",
            "extraEnv": [{"name": "PDFJOB_LOG_LEVEL", "value": "debug"}],
        },
        "runner": {"imagePullSecrets": ["registry"]},
        "serviceAccount": {"annotations": {"role": "c"}},
        "s3": {
            "embedded": {
                "nodeSelector": {"disk": "big"},
                "podAnnotations": {"note": "d"},
                "extraArgs": ["--sidecar=/data-meta"],
                "persistence": {"storageClass": "fast"},
            }
        },
        "source": {"allowedCidrs": ["10.0.0.0/8"], "allowedBuckets": {"*": ["books/open"], "team-a": ["books"]}},
    },
}


@pytest.fixture(params=list(COMBINATIONS.values()), ids=list(COMBINATIONS))
def rendered(request: pytest.FixtureRequest) -> Rendered:
    return render(request.param)


def test_lint_is_content() -> None:
    done = helm("lint", str(CHART), "--strict")
    assert done.returncode == 0, done.stdout


def test_plain_manifests_are_the_rendered_chart() -> None:
    committed = OUTPUT.read_text(encoding="utf-8")
    assert committed == render_plain(), "manifests/pdfjob.yaml differs from the chart: run `make generate` and commit"


def test_plain_manifests_hold_no_password_no_hook_and_nothing_of_helm() -> None:
    text = OUTPUT.read_text(encoding="utf-8")
    documents = [document for document in yaml.safe_load_all(text) if document]
    assert not [document for document in documents if document["kind"] in {"Secret", "Job"}]
    assert "helm" not in text.lower()
    assert len([document for document in documents if document["kind"] == "CustomResourceDefinition"]) == 3


def test_every_pod_passes_pod_security_restricted(rendered: Rendered) -> None:
    assert rendered.pods
    for name, pod in rendered.pods.items():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
        for volume in pod.get("volumes", []):
            assert set(volume) - {"name"} <= {"emptyDir", "configMap", "persistentVolumeClaim"}


def test_names_of_objects_are_distinct_and_selectors_meet_their_pods(rendered: Rendered) -> None:
    keys = [(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]) for d in rendered.documents]
    assert len(keys) == len(set(keys))
    for deployment in rendered.of("Deployment"):
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    for service in rendered.of("Service"):
        [target] = [
            deployment
            for deployment in rendered.of("Deployment")
            if service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
        ]
        ports = [port["name"] for port in target["spec"]["template"]["spec"]["containers"][0]["ports"]]
        assert service["spec"]["ports"][0]["targetPort"] in ports


def test_a_new_operator_is_ready_before_an_old_one_goes_since_a_lease_lets_one_work() -> None:
    spec = render().one("Deployment", "pdfjob")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert render().config["leaderElection"] == {"enabled": True, "name": "pdfjob"}


def test_without_a_lease_there_are_never_two_operators() -> None:
    rendered = render({"leaderElection": {"enabled": False}})
    spec = rendered.one("Deployment", "pdfjob")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert rendered.config["leaderElection"]["enabled"] is False
    assert "leases" not in str([role["rules"] for role in rendered.of("Role")])


def test_several_operators_are_spread_and_evicted_one_at_a_time() -> None:
    rendered = render({"operator": {"replicas": 3}})
    selector = rendered.one("Deployment", "pdfjob")["spec"]["selector"]
    budget = rendered.one("PodDisruptionBudget", "pdfjob")["spec"]
    assert budget == {"maxUnavailable": 1, "selector": selector}
    [term] = rendered.pods["pdfjob"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["podAffinityTerm"] == {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}
    alone = render()
    assert not alone.of("PodDisruptionBudget"), "a budget for one pod would keep its node from being drained"
    assert "affinity" not in alone.pods["pdfjob"]
    mine: dict[str, Any] = {"nodeAffinity": {}}
    assert render({"operator": {"replicas": 3, "affinity": mine}}).pods["pdfjob"]["affinity"] == mine


def test_a_change_of_the_configuration_and_no_other_restarts_the_operator() -> None:
    def checksum(values: dict[str, Any]) -> str:
        template = render(values).one("Deployment", "pdfjob")["spec"]["template"]
        found: str = template["metadata"]["annotations"]["checksum/config"]
        return found

    assert checksum({}) == checksum({"networkPolicy": {"enabled": False}})
    assert checksum({}) != checksum({"maxConcurrentChunks": 3})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"maxConcurentChunks": 4}, "'maxConcurentChunks' not allowed"),
        ({"maxConcurrentChunks": -1}, "/maxConcurrentChunks"),
        ({"maxConcurrentChunks": "many"}, "/maxConcurrentChunks"),
        ({"pendingTimeoutSeconds": 600}, "'pendingTimeoutSeconds' not allowed"),
        ({"logLevel": "loud"}, "'debug', 'info', 'warning', 'error'"),
        ({"operator": {"replicas": -1}}, "/operator/replicas"),
        ({"operator": {"replicas": 2}, "leaderElection": {"enabled": False}}, "needs leaderElection.enabled"),
        ({"monitoring": {"serviceMonitor": {"interval": "often"}}}, "/monitoring/serviceMonitor/interval"),
        ({"operator": {"image": {"pullPolicy": "Sometimes"}}}, "/operator/image/pullPolicy"),
        ({"runner": {"resources": {"limits": {"memory": "lots"}}}}, "/runner/resources/limits/memory"),
        ({"watchNamespaces": ["Team_A"]}, "/watchNamespaces/0"),
        ({"watchNamespaces": ["a", "a"]}, "/watchNamespaces"),
        ({"source": {"maxBytes": 0}}, "/source/maxBytes"),
        ({"source": {"allowedCidrs": ["everywhere"]}}, "/source/allowedCidrs/0"),
        ({"source": {"allowedBuckets": {"*": "books"}}}, "/source/allowedBuckets/*"),
        ({"s3": {"bucket": "B"}}, "/s3/bucket"),
        ({"s3": {"bucket": ""}}, "/s3/bucket"),
        ({"s3": {"prefix": "/pdfjob/"}}, "/s3/prefix"),
        ({"s3": {"endpoint": "s3.example.com"}}, "/s3/endpoint"),
        ({"s3": {"embedded": {"port": 0}}}, "/s3/embedded/port"),
        ({"s3": {"embedded": {"accessKey": "only"}}}, "s3.embedded.accessKey and s3.embedded.secretKey go together"),
        ({"s3": {"embedded": {"enabled": False}, "podEndpoint": "http://x"}}, "set s3.endpoint"),
        ({"crds": {"keep": False}, "uninstall": {"deletePdfJobs": False}}, "uninstall.deletePdfJobs must be true"),
        ({"crds": {"keep": False}, "watchNamespaces": ["a"]}, "set crds.keep=true"),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name"),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(values: dict[str, Any], words: str) -> None:
    assert words in refusal(values)


def test_other_names_of_release_and_chart_are_carried_through() -> None:
    assert render(release="books").one("Deployment", "books-pdfjob")
    assert render({"fullnameOverride": "reader"}).one("Deployment", "reader")


def test_old_clusters_are_refused() -> None:
    done = helm("template", "pdfjob", str(CHART), "--kube-version", "1.31.0")
    assert done.returncode != 0
    assert ">=1.32.0-0" in done.stderr
