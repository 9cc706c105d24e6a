"""A runner on the wire: it gets its task, fetches its chunk, stores what its fate lets it store, and ends.

Nothing of it runs in a container. Towards the operator it is one: the task from the pod's environment, the presigned
URLs, the real object storage, the exit code and the termination message.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.soaking.api import NodeApi
from bench.soaking.fates import Fate, sentence
from pdfjob_api.contract import (
    ENV_CHECKPOINT_URL,
    ENV_CHUNK_URL,
    ENV_RESULT_URL,
    ENV_TASK,
    Checkpoint,
    ChunkResult,
    Record,
    Task,
    TerminationMessage,
)
from pdfjob_api.errors import ExitCode


@dataclass(frozen=True, slots=True)
class Ended:
    """How a container terminated."""

    exit_code: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Runner:
    """The runner of one pod."""

    api: NodeApi
    task: Task
    environment: Mapping[str, str]

    @classmethod
    def of(cls, api: NodeApi, pod: Mapping[str, Any]) -> Runner:
        """Read the task from a pod."""
        environment = {item["name"]: item.get("value", "") for item in pod["spec"]["containers"][0]["env"]}
        return cls(api, Task.model_validate_json(environment[ENV_TASK]), environment)

    async def work(self, fate: Fate) -> Ended:
        """Do what the fate allows.

        Raises
        ------
        RefusedError
            When the storage refuses.
        ValueError
            When the chunk PDF is not the one of the task.
        """
        data = await self.api.fetch(self.environment[ENV_CHUNK_URL])
        if hashlib.sha256(data).hexdigest() != self.task.sha256:
            raise ValueError("the chunk PDF is not the one that the task names")
        if fate.saves_page:
            await self._save()
        stored = await self._store() if fate.stores_result else None
        said = TerminationMessage(
            code=None if fate.exit_code == ExitCode.DONE else fate.code,
            message="" if fate.exit_code == ExitCode.DONE else f"the soak's fate: {fate.name}",
            items=self._items(fate),
            result_sha256=hashlib.sha256(stored).hexdigest() if stored is not None and fate.exit_code == 0 else None,
            result_bytes=len(stored) if stored is not None and fate.exit_code == 0 else None,
        )
        return Ended(fate.exit_code, fate.reason, said.model_dump_json(by_alias=True, exclude_none=True))

    def _items(self, fate: Fate) -> int:
        if fate.stores_result:
            return self.task.end_page - self.task.start_page + 1
        return int(fate.saves_page)

    async def _save(self) -> None:
        first = self.task.start_page
        checkpoint = Checkpoint(
            start_page=first, end_page=self.task.end_page, done=[first], records=self._records(first, first)
        )
        await self.api.store(self.environment[ENV_CHECKPOINT_URL], checkpoint.model_dump_json(by_alias=True).encode())

    async def _store(self) -> bytes:
        first, last = self.task.start_page, self.task.end_page
        result = ChunkResult(start_page=first, end_page=last, records=self._records(first, last))
        data = result.model_dump_json(by_alias=True).encode()
        await self.api.store(self.environment[ENV_RESULT_URL], data, once=True)
        return data

    def _records(self, first: int, last: int) -> list[Record]:
        return [Record(page=page, end_page=page, text=sentence(page)) for page in range(first, last + 1)]
