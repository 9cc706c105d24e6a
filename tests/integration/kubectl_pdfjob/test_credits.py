"""``kubectl pdfjob credits`` and a job that names an account, against a real API server."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.support.cluster import kubectl, kubectl_json

from .installation import pdfjob, user_kubeconfig
from .operator_role import OperatorRole, condition


def stored(namespace: str, name: str = "books") -> dict[str, Any]:
    found: dict[str, Any] = kubectl_json("get", "creditaccount", name, "-n", namespace)
    return found


def book(namespace: str, **status: Any) -> None:
    """Write where the account stands, as the operator does once it has seen it."""
    seen = {"observedGeneration": stored(namespace)["metadata"]["generation"], **status}
    patch = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": seen}))
    kubectl("patch", "creditaccount", "books", "-n", namespace, *patch)


def created(namespace: str, balance: int = 1_000_000) -> None:
    done = pdfjob("credits", "books", "--create", str(balance), "-n", namespace)
    assert done.returncode == 0, done.stderr


def test_an_account_is_made_topped_up_and_shown(namespace: str) -> None:
    nothing = pdfjob("credits", "-n", namespace)
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert f"No CreditAccounts in namespace {namespace}." in nothing.stderr
    missing = pdfjob("credits", "books", "--add", "5", "-n", namespace)
    assert missing.returncode == 3
    assert '"books" not found' in missing.stderr
    assert f"try: kubectl pdfjob credits books --create 1000000 -n {namespace}" in missing.stderr

    created(namespace)
    assert pdfjob("credits", "-n", namespace).stdout.splitlines()[1].split() == ["books", "1,000,000", *"----"]
    book(namespace, available=1_000_000)
    added = pdfjob("credits", "books", "--add", "500000", "-n", namespace)
    assert added.stdout == "creditaccount.pdfjob.dev/books topped up by 500,000 to 1,500,000 tokens\n"
    assert "The operator has not seen the new balance yet." in pdfjob("credits", "books", "-n", namespace).stdout
    again = pdfjob("credits", "books", "--create", "7", "-n", namespace)
    assert again.returncode == 3
    assert f"try: kubectl pdfjob credits books --add 7 -n {namespace}" in again.stderr

    entry = {"uid": "u1", "job": "novel", "run": 1, "reserved": 400_000, "charged": 123_456, "counted": 123_456}
    numbers = {"available": 1_100_000, "reserved": 276_544, "charged": 123_456, "openReservations": 1}
    book(namespace, **numbers, reservations=[entry])
    row = pdfjob("credits", "-n", namespace).stdout.splitlines()[1].split()
    assert row == ["books", "1,500,000", "1,100,000", "276,544", "123,456", "1"]
    last = pdfjob("credits", "books", "-n", namespace).stdout.splitlines()[-1].split()
    assert last == ["novel", "1", "400,000", "123,456", "276,544", "open"]
    told = json.loads(pdfjob("credits", "books", "-n", namespace, "-o", "json").stdout)
    assert told["status"]["reservations"][0]["job"] == "novel"


def test_top_ups_at_the_same_time_are_all_in_the_balance(namespace: str) -> None:
    created(namespace, 0)
    amounts = [1, 10, 100, 1000]
    with ThreadPoolExecutor(len(amounts)) as pool:
        done = list(pool.map(lambda n: pdfjob("credits", "books", "--add", str(n), "-n", namespace), amounts))
    assert [each.stderr for each in done] == [""] * len(amounts)
    assert stored(namespace)["spec"]["balance"] == sum(amounts)


def test_who_may_look_only_is_told_who_may_grant_tokens(namespace: str, tmp_path: Path) -> None:
    created(namespace)
    rights = {"apiGroups": ["pdfjob.dev"], "resources": ["creditaccounts"], "verbs": ["get", "list"]}
    config = ("--kubeconfig", str(user_kubeconfig(namespace, tmp_path / "kubeconfig", rights)), "-n", namespace)
    assert pdfjob("credits", "books", *config).returncode == 0
    for verb in ("--add", "--create"):
        refused = pdfjob("credits", "books", verb, "5", *config)
        assert refused.returncode == 3
        assert "is forbidden" in refused.stderr
        assert "ask an admin of the namespace" in refused.stderr
    assert stored(namespace)["spec"]["balance"] == 1_000_000


def test_a_job_is_submitted_on_an_account_and_says_that_it_waits_for_it(namespace: str) -> None:
    created(namespace, 5)
    options = ("--credit-account", "books", "--estimated-tokens", "9", "--name", "novel", "-n", namespace)
    done = pdfjob("submit", "https://example.org/novel.pdf", *options)
    assert done.returncode == 0, done.stderr
    spec = kubectl_json("get", "pdfjob", "novel", "-n", namespace)["spec"]
    assert spec["creditAccountRef"] == {"name": "books", "estimatedTokens": 9}
    assert "account books: nothing reserved, 9 expected" in pdfjob("status", "novel", "-n", namespace).stdout

    message = "the job is expected to take 9 tokens and the credit account books has 5 available"
    operator = OperatorRole(namespace, "novel")
    held = condition("CreditsReserved", "False", "InsufficientCredits", message)
    operator.status(phase="Running", conditions=[condition("Accepted", "True", "Accepted"), held])
    text = pdfjob("status", "novel", "-n", namespace).stdout
    assert f"InsufficientCredits: {message}" in text
    assert f"kubectl pdfjob credits books -n {namespace}" in text
