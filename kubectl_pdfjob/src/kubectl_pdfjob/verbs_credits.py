"""The verb for credit accounts: ``credits``."""

from __future__ import annotations

from typing import Annotated

import typer

from .errors import UsageError
from .options import JsonOutput, Where, verb

__all__ = ["add_credit_verbs"]


def _credits(
    where: Where,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A CreditAccount.")] = None,
    add: Annotated[
        int | None, typer.Option("--add", min=1, help="Top the account up by so many tokens.", metavar="N")
    ] = None,
    create: Annotated[
        int | None, typer.Option("--create", min=0, help="Make the account, with so many tokens.", metavar="N")
    ] = None,
    output: JsonOutput = None,
) -> None:
    """Show credit accounts, the tokens that jobs may use of a language service: all in a table, or one in full.

    With NAME, also what each job has reserved and used. --create makes the account, --add grants it more tokens; both
    need rights that whoever may only submit jobs does not have.
    """
    from .credits import create_account, show_account, show_accounts, top_up
    from .screen import Screen

    if add is not None and create is not None:
        raise UsageError("--create makes an account and --add tops one up; give one of them")
    if name is None and (add is not None or create is not None):
        raise UsageError(f"{'--add' if create is None else '--create'} needs the NAME of the account")
    cluster, screen, as_json = where.connect(), Screen(), output is not None
    if name is None:
        show_accounts(cluster, screen, as_json=as_json)
    elif create is not None:
        create_account(cluster, name, create, screen, as_json=as_json)
    elif add is not None:
        top_up(cluster, name, add, screen, as_json=as_json)
    else:
        show_account(cluster, name, screen, as_json=as_json)


def add_credit_verbs(app: typer.Typer) -> None:
    """Add the verb of this module to the command line."""
    verb(
        app,
        "credits",
        "Show, make and top up credit accounts.",
        plain="kubectl get creditaccounts\nkubectl describe creditaccount NAME\n"
        'kubectl patch creditaccount NAME --type=merge \\\n  -p \'{"spec":{"balance":3000000}}\'',
    )(_credits)
