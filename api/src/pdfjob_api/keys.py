"""Object keys on S3. All of them hang under one prefix (default ``pdfjob``) of one bucket."""

from __future__ import annotations

from dataclasses import dataclass

from .names import run_of


def inbox_prefix(prefix: str, namespace: str) -> str:
    """Folder of uploaded sources of a namespace; a PdfJob reads from its own namespace's inbox by default."""
    return f"{prefix}/inbox/{namespace}/"


def history_prefix(prefix: str, namespace: str) -> str:
    """Folder of the records of finished jobs of a namespace: ``NAME/RUN/job.json`` and ``NAME/RUN/errors/``."""
    return f"{prefix}/history/{namespace}/"


def cache_prefix(prefix: str) -> str:
    """Folder of the results of chunks that are kept for other jobs: ``NAMESPACE/NAME.json``, removed by age alone."""
    return f"{prefix}/cache/"


@dataclass(frozen=True, slots=True)
class JobKeys:
    """Keys of one PdfJob."""

    prefix: str
    namespace: str
    name: str
    uid: str

    @property
    def root(self) -> str:
        """Folder of the job, with the trailing slash."""
        return f"{self.prefix}/jobs/{self.namespace}/{self.name}/"

    @property
    def plan(self) -> str:
        """Key of the plan: page ranges, source hash, settings hash."""
        return f"{self.root}plan.json"

    @property
    def manifest(self) -> str:
        """Key of the manifest: hash and size of every stored chunk PDF."""
        return f"{self.root}manifest.json"

    def chunk(self, index: int) -> str:
        """Key of the PDF of a chunk."""
        return f"{self.root}chunks/c{index:05d}.pdf"

    def checkpoints(self, index: int) -> str:
        """Folder of the checkpoints of a chunk, of every run and start."""
        return f"{self.root}checkpoints/c{index:05d}/"

    def checkpoint(self, index: int, start: int) -> str:
        """Key of the checkpoint that one start writes."""
        return f"{self.checkpoints(index)}{self._start(start)}"

    def progress(self, index: int, start: int) -> str:
        """Key of the progress object (heartbeat) that one start writes."""
        return f"{self.root}progress/c{index:05d}/{self._start(start)}"

    def chunk_result(self, index: int, start: int) -> str:
        """Key of the result of a chunk as one start stores it, once; start 0 is one that was taken from the cache."""
        return f"{self.root}results/c{index:05d}/{self._start(start)}"

    def cached(self, name: str) -> str:
        """Key under which jobs of the namespace keep and find the result of a chunk, whichever did it first."""
        return f"{cache_prefix(self.prefix)}{self.namespace}/{name}.json"

    def result(self, fmt: str) -> str:
        """Key of the merged result in a format (``jsonl``, ``txt``, ``csv``)."""
        return f"{self.root}result.{fmt}"

    @property
    def history(self) -> str:
        """Folder of this run's record; it outlives the job."""
        return f"{history_prefix(self.prefix, self.namespace)}{self.name}/{run_of(self.uid)}/"

    @property
    def history_record(self) -> str:
        """Key of the record of the job, written when it ends."""
        return f"{self.history}job.json"

    def error(self, index: int, start: int) -> str:
        """Key of the record of a start that failed."""
        return f"{self.history}errors/c{index:05d}-a{start}.json"

    def is_merged_result(self, key: str) -> bool:
        """Whether a key is a merged result, which deletion of the job keeps."""
        return key.startswith(f"{self.root}result.")

    def start_of_checkpoint(self, key: str) -> int | None:
        """Return the number of the start that wrote a checkpoint; None for keys of another run or form."""
        name = key.rsplit("/", 1)[-1]
        head = f"{run_of(self.uid)}-a"
        number = name.removeprefix(head).removesuffix(".json")
        return int(number) if name.startswith(head) and number.isdecimal() else None

    def _start(self, start: int) -> str:
        return f"{run_of(self.uid)}-a{start}.json"
