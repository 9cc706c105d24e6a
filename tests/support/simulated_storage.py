"""The objects of one PdfJob on S3, as far as decisions depend on them."""

from __future__ import annotations

from dataclasses import dataclass, field

from pdfjob_api.contract import Tokens
from pdfjob_api.pdfchunk import ChunkResultStatus
from pdfjob_operator.plan import Manifest, Plan


@dataclass(slots=True)
class Storage:
    """The objects of the job on S3."""

    plan: Plan | None = None
    manifest: Manifest | None = None
    saved: dict[tuple[int, int], int] = field(default_factory=dict)
    """Pages in the checkpoint of each chunk and start."""
    results: dict[tuple[int, int], bool] = field(default_factory=dict)
    """Result objects by chunk and start: whether they are right."""
    merged: str | None = None
    """What the stored result was made of."""
    recorded: str | None = None
    """Completion time in the record of the job; "deleted" when it was deleted before its end."""
    cleaned: bool = False

    def newest_checkpoint(self, index: int, after: int = 0) -> int:
        """Return the pages in the checkpoint of the last start behind ``after`` that saved one."""
        starts = [start for chunk, start in self.saved if chunk == index and start > after]
        return self.saved[index, max(starts)] if starts else 0

    def result(self, index: int, start: int) -> ChunkResultStatus | None:
        """Return what reading the result of a start back gives, None when there is none or it is wrong."""
        if not self.results.get((index, start)):
            return None
        return ChunkResultStatus(
            uri=f"s3://bucket/c{index}-a{start}",
            sha256=f"c{index}",
            bytes=10,
            sentences=3,
            tokens=Tokens(input=100 + 10 * index + start),
        )
