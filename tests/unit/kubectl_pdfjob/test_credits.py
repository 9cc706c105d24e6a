"""Credit accounts: what is shown of them, and how they are made and topped up, over the wire."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from kubectl_pdfjob.cluster import Cluster
from kubectl_pdfjob.credits import account_table, account_view, create_account, show_account, show_accounts, top_up
from kubectl_pdfjob.errors import ClusterError, ConflictError, ForbiddenError, NameTakenError, NotFoundError
from kubectl_pdfjob.screen import Screen, plain
from pdfjob_api.creditaccount import CreditAccount
from tests.support.plugin_server import connected, serving

_PATH = "/apis/pdfjob.dev/v1alpha1/namespaces/lib/creditaccounts"
NOVEL = {"uid": "u1", "job": "novel", "run": 1, "reserved": 400_000, "charged": 123_456, "counted": 123_456}
ATLAS = {"uid": "u2", "job": "atlas", "run": 1, "reserved": 5_000, "charged": 5_250, "counted": 5_250}
DIARY = {"uid": "u3", "job": "diary", "run": 1, "reserved": 9_000, "charged": 4_000, "counted": 4_000, "settled": True}


def raw_account(name: str = "books", balance: int = 1_000_000, version: int = 1, **status: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "lib", "resourceVersion": str(version), "generation": version}
    return {"metadata": metadata, "spec": {"balance": balance}, "status": status}


def account(name: str = "books", balance: int = 1_000_000, version: int = 1, **status: Any) -> CreditAccount:
    return CreditAccount.model_validate(raw_account(name, balance, version, **status))


class ApiServer(ThreadingHTTPServer):
    """Keeps the credit accounts of one namespace; a write on an older version than the stored one is a conflict."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.accounts: dict[str, dict[str, Any]] = {}
        self.installed = True
        self.read_only = False
        self.before_patch: Callable[[], None] = lambda: None
        self.patches = 0

    def keep(self, raw: dict[str, Any]) -> None:
        self.accounts[raw["metadata"]["name"]] = raw

    def book(self, name: str = "books") -> None:
        """Write into the status of an account, as the operator does whenever a chunk has ended."""
        self.accounts[name]["metadata"]["resourceVersion"] += "0"

    def grant(self, tokens: int, name: str = "books") -> None:
        """Top an account up, as another user does."""
        self.accounts[name]["spec"]["balance"] += tokens
        self.book(name)


class _Handler(BaseHTTPRequestHandler):
    server: ApiServer

    def do_GET(self) -> None:
        if not self.server.installed:
            self._refuse(404, "NotFound", "the server could not find the requested resource", None)
        elif self._name is None:
            self._answer(200, {"metadata": {"resourceVersion": "9"}, "items": list(self.server.accounts.values())})
        elif self._name in self.server.accounts:
            self._answer(200, self.server.accounts[self._name])
        else:
            self._refuse(404, "NotFound", f'creditaccounts.pdfjob.dev "{self._name}" not found', self._name)

    def do_POST(self) -> None:
        body = self._body()
        name = body["metadata"]["name"]
        if self.server.read_only:
            self._refuse(403, "Forbidden", "creditaccounts.pdfjob.dev is forbidden: ada cannot create", None)
        elif name in self.server.accounts:
            self._refuse(409, "AlreadyExists", f'creditaccounts.pdfjob.dev "{name}" already exists', name)
        else:
            body["metadata"] |= {"resourceVersion": "1", "generation": 1}
            self.server.keep(body)
            self._answer(201, body)

    def do_PATCH(self) -> None:
        self.server.patches += 1
        self.server.before_patch()
        patch, name = self._body(), self._name
        assert name
        stored = self.server.accounts[name]
        if self.server.read_only:
            self._refuse(403, "Forbidden", f'creditaccounts.pdfjob.dev "{name}" is forbidden: ada cannot patch', name)
        elif patch["metadata"]["resourceVersion"] != stored["metadata"]["resourceVersion"]:
            self._refuse(409, "Conflict", "the object has been modified; please apply your changes", name)
        else:
            stored["spec"] |= patch["spec"]
            self._answer(200, stored)

    @property
    def _name(self) -> str | None:
        return self.path.partition("?")[0].removeprefix(_PATH).strip("/") or None

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _refuse(self, code: int, reason: str, message: str, name: str | None) -> None:
        details = {"details": {"name": name}} if name else {}
        self._answer(code, {"kind": "Status", "code": code, "reason": reason, "message": message, **details})

    def _answer(self, code: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Keep the test output quiet."""


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with serving(ApiServer()) as started:
        yield started


@pytest.fixture
def cluster(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return connected(api, tmp_path, monkeypatch)


def add(cluster: Cluster, tokens: int, *, as_json: bool = False) -> None:
    top_up(cluster, "books", tokens, Screen(), as_json=as_json)


class TestTopUp:
    def test_adds_to_the_balance_and_says_what_it_is_now(
        self, api: ApiServer, cluster: Cluster, capsys: pytest.CaptureFixture[str]
    ) -> None:
        api.keep(raw_account(balance=1_000_000))
        add(cluster, 500_000)

        assert api.accounts["books"]["spec"]["balance"] == 1_500_000
        out = capsys.readouterr().out
        assert out == "creditaccount.pdfjob.dev/books topped up by 500,000 to 1,500,000 tokens\n"

    def test_loses_none_of_two_that_come_at_once(self, api: ApiServer, cluster: Cluster) -> None:
        api.keep(raw_account(balance=1_000_000))
        others = [lambda: api.grant(7), api.book]
        api.before_patch = lambda: others.pop()() if others else None
        add(cluster, 500_000)

        assert api.accounts["books"]["spec"]["balance"] == 1_500_007
        assert api.patches == 3

    def test_gives_up_when_somebody_is_always_faster(
        self, api: ApiServer, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("time.sleep", lambda _: None)
        api.keep(raw_account(balance=1_000_000))
        api.before_patch = api.book
        with pytest.raises(ConflictError, match='cannot top up creditaccount "books": the object has been modified'):
            add(cluster, 1)

        assert api.accounts["books"]["spec"]["balance"] == 1_000_000

    def test_without_the_right_says_who_has_it(self, api: ApiServer, cluster: Cluster) -> None:
        api.keep(raw_account())
        api.read_only = True
        with pytest.raises(ForbiddenError, match='cannot top up creditaccount "books"') as refused:
            add(cluster, 1)

        assert str(refused.value.hint).startswith("ask an admin of the namespace")
        assert api.patches == 1

    def test_of_no_account_says_how_to_make_it(self, cluster: Cluster) -> None:
        with pytest.raises(NotFoundError, match='"books" not found in namespace "lib"') as missing:
            add(cluster, 1)

        assert str(missing.value.hint).startswith("kubectl pdfjob credits books --create 1000000")

    def test_prints_the_account_for_programs(
        self, api: ApiServer, cluster: Cluster, capsys: pytest.CaptureFixture[str]
    ) -> None:
        api.keep(raw_account(balance=1))
        add(cluster, 2, as_json=True)

        assert json.loads(capsys.readouterr().out)["spec"] == {"balance": 3}


class TestCreate:
    def test_makes_the_account_and_says_how_to_use_it(
        self, api: ApiServer, cluster: Cluster, capsys: pytest.CaptureFixture[str]
    ) -> None:
        create_account(cluster, "books", 2_000_000, Screen(), as_json=False)
        made, said = api.accounts["books"], capsys.readouterr()

        assert (made["kind"], made["metadata"]["namespace"], made["spec"]) == (
            "CreditAccount",
            "lib",
            {"balance": 2_000_000},
        )
        assert said.out == "creditaccount.pdfjob.dev/books created with 2,000,000 tokens\n"
        assert "kubectl pdfjob submit FILE --credit-account books" in said.err

    def test_of_one_that_exists_says_how_to_top_it_up(self, api: ApiServer, cluster: Cluster) -> None:
        api.keep(raw_account(balance=5))
        with pytest.raises(NameTakenError, match='"books" already exists') as taken:
            create_account(cluster, "books", 7, Screen(), as_json=False)

        assert str(taken.value.hint).startswith("kubectl pdfjob credits books --add 7")
        assert api.accounts["books"]["spec"]["balance"] == 5

    def test_without_the_right_says_who_has_it(self, api: ApiServer, cluster: Cluster) -> None:
        api.read_only = True
        with pytest.raises(ForbiddenError, match="cannot create the CreditAccount") as refused:
            create_account(cluster, "books", 7, Screen(), as_json=False)

        assert str(refused.value.hint).startswith("ask an admin of the namespace")


class TestShow:
    def test_all_accounts_in_a_table_by_name(self) -> None:
        seen = {"observedGeneration": 1, "available": 476_544, "reserved": 276_544, "charged": 246_912}
        accounts = [account("books", **seen, openReservations=2), account("atlas", balance=50), account("empty", 0)]
        overdrawn = account("debts", 100, observedGeneration=1, available=-50, charged=150)

        assert plain(account_table([*accounts, overdrawn])).splitlines() == [
            "NAME   BALANCE    AVAILABLE  RESERVED  CHARGED  OPEN",
            "atlas  50         -          -         -        -",
            "books  1,000,000  476,544    276,544   246,912  2",
            "debts  100        -50        0         150      0",
            "empty  0          -          -         -        -",
        ]

    def test_one_account_with_what_each_job_has_reserved_and_used(self) -> None:
        found = account(
            version=3,
            observedGeneration=3,
            available=590_750,
            reserved=276_544,
            charged=132_706,
            refunded=5_000,
            openReservations=2,
            settledReservations=1,
            reservations=[NOVEL, ATLAS, DIARY],
        )

        assert plain(account_view(found)).splitlines() == [
            "Name:       books  (namespace lib)",
            "Balance:    1,000,000 granted",
            "Available:  590,750",
            "Reserved:   276,544 by 2 jobs under way",
            "Charged:    132,706",
            "Refunded:   5,000 at the ends of 1 run",
            "",
            "Reservations:",
            "  JOB    RUN  RESERVED  CHARGED  LEFT     STATE",
            "  atlas  1    5,000     5,250    0        used up",
            "  diary  1    9,000     4,000    0        settled",
            "  novel  1    400,000   123,456  276,544  open",
        ]
        assert found.spec.balance == found.status.available + found.status.reserved + found.status.charged

    def test_an_account_that_the_operator_has_not_seen_says_so_and_tells_no_numbers(self) -> None:
        text = plain(account_view(account()))

        assert "Available:" not in text
        assert "The operator has not taken this account yet." in text

    def test_a_balance_that_the_operator_has_not_seen_yet_is_told(self) -> None:
        text = plain(account_view(account(version=4, observedGeneration=3, available=7)))

        assert "The operator has not seen the new balance yet." in text

    def test_no_account_at_all_says_how_to_make_one(self, cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
        show_accounts(cluster, Screen(), as_json=False)
        said = capsys.readouterr()

        assert said.out == ""
        assert "No CreditAccounts in namespace lib." in said.err
        assert "kubectl pdfjob credits NAME --create 1000000" in said.err

    def test_an_account_that_is_not_there_says_how_to_make_it(self, cluster: Cluster) -> None:
        with pytest.raises(NotFoundError) as missing:
            show_account(cluster, "books", Screen(), as_json=False)

        assert str(missing.value.hint).startswith("kubectl pdfjob credits books --create 1000000")

    def test_programs_get_the_objects(
        self, api: ApiServer, cluster: Cluster, capsys: pytest.CaptureFixture[str]
    ) -> None:
        api.keep(raw_account(observedGeneration=1, available=3))
        show_accounts(cluster, Screen(), as_json=True)
        show_account(cluster, "books", Screen(), as_json=True)
        every, _, one = capsys.readouterr().out.partition("\n]\n")

        assert [item["status"]["available"] for item in json.loads(f"{every}]")] == [3]
        assert json.loads(one)["metadata"]["name"] == "books"

    def test_a_cluster_without_the_kind_is_told_from_one_without_the_product(
        self, api: ApiServer, cluster: Cluster
    ) -> None:
        api.installed = False
        with pytest.raises(ClusterError, match=r"or in an older version: it has no resource creditaccounts\.pdfjob"):
            show_accounts(cluster, Screen(), as_json=False)
        with pytest.raises(ClusterError, match=r"^pdfjob is not installed on this cluster: it has no resource pdfjobs"):
            cluster.jobs()
