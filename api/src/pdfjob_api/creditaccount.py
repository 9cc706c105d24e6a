"""The CreditAccount resource: tokens that the PdfJobs of a namespace may use of a language service.

One object is the whole ledger: each booking is one write on the version that was read, so that nothing is booked twice
and nothing is lost when the operator is killed at any moment. In every state

    spec.balance = status.available + status.reserved + status.charged
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from .base import Model
from .meta import ObjectMeta

MAX_TOKENS: Final = 10**15
MAX_RESERVATIONS: Final = 1000
"""Reservations in one account at a time: the object stays small."""


class CreditAccountRef(Model):
    """The credit account that pays for the language work."""

    name: str = Field(
        min_length=1,
        max_length=253,
        pattern="^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        description="Name of a CreditAccount of the same namespace; immutable.",
    )
    estimated_tokens: int | None = Field(
        default=None,
        ge=1,
        le=MAX_TOKENS,
        description="Tokens to reserve for the whole document (input, output, thinking); absent = as counted from its "
        "text, see status.estimatedTokens.",
    )


class CreditAccountSpec(Model):
    """What the jobs may use."""

    balance: int = Field(
        ge=0,
        le=MAX_TOKENS,
        description="Tokens ever granted, input, output and thinking together; raise it to top the account up.",
    )


class Reservation(Model):
    """What one run of a PdfJob has reserved and used."""

    uid: str = Field(max_length=64, description="UID of the PdfJob.")
    job: str = Field(max_length=253, description="Name of the PdfJob.")
    run: int = Field(ge=1, description="Which run of the PdfJob, counted from 1.")
    reserved: int = Field(default=0, ge=0, description="Tokens reserved for the run.")
    charged: int = Field(default=0, ge=0, description="Tokens charged to the run.")
    counted: int = Field(
        default=0,
        ge=0,
        description="Tokens of all results the PdfJob has had that are charged already, earlier runs included: only "
        "what comes on top is charged.",
    )
    settled: bool = Field(
        default=False,
        description="Whether the run has ended and the rest has gone back; it is taken out once the PdfJob says so.",
    )


class CreditAccountStatus(Model):
    """Where the account stands."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="Generation of the spec this status speaks of."
    )
    available: int = Field(
        default=0,
        description="Tokens that can be reserved. Below 0 when the balance was lowered, or when a job used more than "
        "was reserved for it.",
    )
    reserved: int = Field(default=0, ge=0, description="Tokens reserved and not used yet.")
    charged: int = Field(default=0, ge=0, description="Tokens charged, all jobs ever together.")
    refunded: int = Field(default=0, ge=0, description="Tokens that went back at the ends of jobs, all ever together.")
    open_reservations: int = Field(default=0, ge=0, description="Jobs that hold a reservation.")
    settled_reservations: int = Field(default=0, ge=0, description="Reservations settled so far.")
    reservations: list[Reservation] = Field(
        default_factory=list,
        max_length=MAX_RESERVATIONS,
        description="What the jobs under way have reserved and used.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["uid"]},
    )


class CreditAccount(Model):
    """Tokens that the PdfJobs of a namespace may use of a language service."""

    api_version: Literal["pdfjob.dev/v1alpha1"] = "pdfjob.dev/v1alpha1"
    kind: Literal["CreditAccount"] = "CreditAccount"
    metadata: ObjectMeta
    spec: CreditAccountSpec = Field(description="What the jobs may use.")
    status: CreditAccountStatus = Field(
        default=CreditAccountStatus(), description="Where the account stands; written by the operator."
    )
