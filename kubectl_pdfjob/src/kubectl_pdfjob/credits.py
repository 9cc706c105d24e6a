"""``kubectl pdfjob credits``: the tokens that jobs may use, what of them is reserved and used, and more of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from pdfjob_api.creditaccount import CreditAccount, Reservation
from pdfjob_api.names import GROUP

from .cluster import Cluster
from .errors import ConflictError, ForbiddenError, NameTakenError, NotFoundError
from .formats import NONE, counted
from .screen import Screen
from .views import new_table

__all__ = ["account_table", "account_view", "create_account", "show_account", "show_accounts", "top_up"]

_TRIES: Final = 20
"""Of a top-up: the operator writes into an account whenever a chunk of its jobs ends."""
_PAUSE_SECONDS: Final = 0.5
"""Between two tries at most; by chance, as several may be at it."""
_UNSEEN: Final = (
    "The operator has not taken this account yet. Does it run, and does it watch this namespace?",
    "kubectl get pods -A -l app.kubernetes.io/name=pdfjob",
)


def show_accounts(cluster: Cluster, screen: Screen, *, as_json: bool) -> None:
    """Print the accounts of the namespace."""
    accounts = cluster.accounts()
    if as_json:
        screen.write(json.dumps([account.wire() for account in accounts], indent=2, ensure_ascii=False))
        return
    if not accounts:
        screen.note(f"No CreditAccounts in namespace {cluster.namespace}.")
        screen.note(f"  make one:    kubectl pdfjob credits NAME --create 1000000{cluster.flags}")
        return
    screen.show(account_table(accounts))


def show_account(cluster: Cluster, name: str, screen: Screen, *, as_json: bool) -> None:
    """Print one account with its reservations."""
    _print(_read(cluster, name), screen, as_json=as_json)


def create_account(cluster: Cluster, name: str, tokens: int, screen: Screen, *, as_json: bool) -> None:
    """Make an account with a balance.

    Raises
    ------
    NameTakenError
        When there is one of this name.
    ForbiddenError
        When the user may not grant tokens.
    """
    try:
        account = cluster.create_account(name, tokens)
    except NameTakenError as error:
        hint = f"kubectl pdfjob credits {name} --add {tokens}{cluster.flags}"
        raise NameTakenError(str(error), hint=hint) from error
    except ForbiddenError as error:
        raise _no_right(error) from error
    if as_json:
        _print(account, screen, as_json=True)
        return
    screen.write(f"creditaccount.{GROUP}/{name} created with {counted(tokens, 'token')}")
    screen.note(f"  let it pay:  kubectl pdfjob submit FILE --credit-account {name}{cluster.flags}")


def top_up(cluster: Cluster, name: str, tokens: int, screen: Screen, *, as_json: bool) -> None:
    """Grant an account more tokens.

    The sum is written on the version that was read, so that of two who top up at once neither is lost.

    Raises
    ------
    NotFoundError
        When there is no account of this name.
    ForbiddenError
        When the user may not grant tokens.
    ConflictError
        When it was changed by others at every try.
    """
    tries = Retrying(
        retry=retry_if_exception_type(ConflictError),
        stop=stop_after_attempt(_TRIES),
        wait=wait_random(0, _PAUSE_SECONDS),
        reraise=True,
    )
    changed = tries(_add, cluster, name, tokens)
    if as_json:
        _print(changed, screen, as_json=True)
    else:
        balance = counted(changed.spec.balance, "token")
        screen.write(f"creditaccount.{GROUP}/{name} topped up by {tokens:,} to {balance}")


def account_table(accounts: Iterable[CreditAccount]) -> Table:
    """Return the table of all accounts, by name."""
    table = new_table("NAME", "BALANCE", "AVAILABLE", "RESERVED", "CHARGED", "OPEN")
    for account in sorted(accounts, key=lambda each: each.metadata.name):
        status = account.status
        numbers = [status.available, status.reserved, status.charged, status.open_reservations]
        shown = [f"{number:,}" if _is_seen(account) else NONE for number in numbers]
        table.add_row(account.metadata.name, f"{account.spec.balance:,}", *shown)
    return table


def account_view(account: CreditAccount) -> RenderableType:
    """Return all there is to say of one account."""
    status, meta = account.status, account.metadata
    grid = Table.grid(padding=(0, 2, 0, 0))
    rows = {
        "Name": f"{meta.name}  (namespace {meta.namespace})",
        "Balance": f"{account.spec.balance:,} granted",
        "Available": f"{status.available:,}",
        "Reserved": f"{status.reserved:,} by {counted(status.open_reservations, 'job')} under way",
        "Charged": f"{status.charged:,}",
        "Refunded": f"{status.refunded:,} at the ends of {counted(status.settled_reservations, 'run')}",
    }
    for name, value in rows.items():
        if name in {"Name", "Balance"} or _is_seen(account):
            grid.add_row(Text(f"{name}:", style="bold"), value)
    parts: list[RenderableType] = [grid]
    if status.reservations:
        table = Padding(_reservation_table(status.reservations), (0, 0, 0, 2), expand=False)
        parts += [Text(""), Text("Reservations:", style="bold"), table]
    if not _is_seen(account):
        parts += [Text(""), Text("\n".join(_UNSEEN), overflow="fold")]
    elif status.observed_generation != meta.generation:
        parts += [Text(""), Text("The operator has not seen the new balance yet.")]
    return Group(*parts)


def _reservation_table(reservations: Iterable[Reservation]) -> Table:
    table = new_table("JOB", "RUN", "RESERVED", "CHARGED", "LEFT", "STATE")
    for entry in sorted(reservations, key=lambda each: each.job):
        left = 0 if entry.settled else max(entry.reserved - entry.charged, 0)
        state = "settled" if entry.settled else "open" if left else "used up"
        table.add_row(entry.job, str(entry.run), f"{entry.reserved:,}", f"{entry.charged:,}", f"{left:,}", state)
    return table


def _is_seen(account: CreditAccount) -> bool:
    """Whether the operator has written where the account stands."""
    return account.status.observed_generation is not None


def _print(account: CreditAccount, screen: Screen, *, as_json: bool) -> None:
    if as_json:
        screen.write(json.dumps(account.wire(), indent=2, ensure_ascii=False))
    else:
        screen.show(account_view(account))


def _read(cluster: Cluster, name: str) -> CreditAccount:
    try:
        return cluster.account(name)
    except NotFoundError as error:
        hint = f"kubectl pdfjob credits {name} --create 1000000{cluster.flags}"
        raise NotFoundError(str(error), hint=hint) from error


def _add(cluster: Cluster, name: str, tokens: int) -> CreditAccount:
    account = _read(cluster, name)
    try:
        return cluster.set_balance(account, account.spec.balance + tokens)
    except ForbiddenError as error:
        raise _no_right(error) from error


def _no_right(error: ForbiddenError) -> ForbiddenError:
    """Say who may grant tokens."""
    hint = "ask an admin of the namespace: granting tokens is a right of the role admin (see docs/credits.md)"
    return ForbiddenError(str(error), hint=hint)
