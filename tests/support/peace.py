"""What the simulated world does when nothing goes wrong: the proof that decisions always come to an end."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from pdfjob_api.conditions import JobCondition
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob
from pdfjob_operator.conditions import is_true

from .api_server import KINDS
from .simulated_operator import SimulatedOperator
from .world import World

_RESYNC: Final = timedelta(seconds=600)
_ROUNDS: Final = 1500
"""Rounds of events, moves and reconciles within which a job must end once nothing goes wrong any more."""


class Peace:
    """Drives a world without further faults, waking the operator only when its queue or an event says so."""

    def __init__(self, world: World, operator: SimulatedOperator) -> None:
        self.world, self.operator, self.start = world, operator, world.now
        self._resync_at = world.now + _RESYNC

    def job(self) -> PdfJob | None:
        """Return the PdfJob as it truly is, None when it is gone."""
        raw = self.world.objects["pdfjobs"].get(self.world.uid)
        return PdfJob.model_validate(raw) if raw is not None else None

    def chunks(self) -> list[PdfChunk]:
        """Return the PdfChunks as they truly are."""
        return [PdfChunk.model_validate(raw) for raw in self.world.objects["pdfchunks"].values()]

    def finished(self) -> bool:
        """Whether the PdfJob has come to its end, or is gone."""
        job = self.job()
        return job is None or is_true(job, JobCondition.FINISHED)

    def round(self) -> bool:
        """Let each part do what it can do now; return whether any did."""
        world, operator = self.world, self.operator
        world.now += timedelta(seconds=0.1)
        moved = False
        for plural in KINDS:
            while world.events[plural]:
                operator.deliver(plural, 0)
                moved = True
        if world.bank is not None and world.bank.news:
            operator.hear_of_the_account()
            moved = True
        job = self.job()
        if job is not None and job.metadata.deletion_timestamp is None:  # else they hang, and must be ended
            for move in world.runner_moves():
                move()
                moved = True
        for move in world.moves():
            move()
            moved = True
        if operator.working:
            operator.work_step()
            moved = True
        if operator.busy or (operator.due is not None and operator.due <= world.now):
            operator.reconcile()
            moved = True
        return moved

    def wait(self) -> None:
        """Let time pass until something is due."""
        world, operator = self.world, self.operator
        world.now = max(world.now, min(operator.due or self._resync_at, self._resync_at))
        if world.now >= self._resync_at:
            operator.resync()
            self._resync_at = world.now + _RESYNC

    def until_finished(self) -> None:
        """Go on until the PdfJob has come to its end."""
        for _ in range(_ROUNDS):
            if self.finished():
                return
            if not self.round():
                self.wait()
        raise AssertionError(f"the job does not end: {self.job()}")

    def until_gone(self) -> None:
        """Go on until a deleted PdfJob and its PdfChunks are gone."""
        for _ in range(_ROUNDS):
            if self.job() is None and not self.world.objects["pdfchunks"]:
                return
            if not self.round():
                self.wait()
        raise AssertionError(f"the PdfJob does not go: {self.job()}")

    def until_quiet(self) -> None:
        """Go on until nobody has anything to do any more but to look for ghosts now and then."""
        last = self.world.now + 3 * _RESYNC
        while self.world.now < last:
            if not self.round():
                self.wait()
