"""The soak: hundreds of PdfJobs whose chunks fail as was decided before, under an operator that is killed all the time.

A simulated node plays the runners (`bench.soaking.node`); splitting, dispatching, recording, retrying, merging and
removing are the product's own, on the real cluster and the real object storage. The operator is a process of this work
tree with the installed one's rights, settings and Lease, and is killed with SIGKILL every ``KILL_SECONDS``.

Always ``WINDOW`` PdfJobs are live; of the finished ones the newest are kept and the others deleted, so that there is as
much to hold in memory at the end of the run as at its beginning. Of the finished ones each is compared with the
prediction, byte by byte in its merged result. The last few run in one undisturbed life of the operator: its counters
must agree with the resources. ``JOBS``, ``KILL_SECONDS``, ``SEED``, ``MINUTES`` are taken from the environment.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import urllib3
import yaml

from bench.report import Figure, report
from bench.soaking.fates import PAGES_PER_CHUNK, ExpectedJob, plan_of, predict
from bench.soaking.memory import flatness
from bench.soaking.node import LABEL
from bench.soaking.operator import Watcher, start_operator
from bench.soaking.surroundings import remove_objects, simulated_node
from bench.soaking.verdict import counter_differences, gauge_differences, job_differences, played_differences
from tests.support import pdfs
from tests.support.cluster import RESTRICTED, kubectl, kubectl_json
from tests.support.fault_cluster import Access, Api, Raw, own_namespace
from tests.support.fault_rest import installed_operator_at_rest
from tests.support.product import SYSTEM, Storage, install, wait_until

ASKED: Final = 200
CHUNKS: Final = 25
FLAT: Final = 0.10
_LARGE: Final = 50
"""A soak of so many jobs lasts long enough to measure memory."""
_WINDOW: Final = 8
_KEPT: Final = 16
_PARALLELISM: Final = 4
_POLL_SECONDS: Final = 1.0
_STANDSTILL_SECONDS: Final = 240
"""Without the end of any PdfJob for so long the soak gives up and says so."""
_DEAD_SECONDS: Final = 0.2
"""A look this long after a kill sees the next process: start times of processes are too coarse to tell."""
_SMALL: Final = {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}


@dataclass(frozen=True, slots=True)
class Size:
    """How large the soak is."""

    jobs: int
    calm: int
    """Jobs at the end that run in one life of the operator."""
    window: int
    kept: int
    kill_seconds: float
    seed: int
    minutes: float
    """After so long nothing new is submitted; what was is finished."""

    @classmethod
    def from_environment(cls) -> Size:
        """Read what was asked for; a small soak kills more often, so that it kills at all."""
        jobs = int(os.environ.get("JOBS") or ASKED)
        calm = max(jobs // 25, 2)
        window = max(min(_WINDOW, jobs - calm), 1)
        return cls(
            jobs=jobs,
            calm=calm,
            window=window,
            kept=min(_KEPT, jobs // 3),
            kill_seconds=float(os.environ.get("KILL_SECONDS") or (60 if jobs >= _LARGE else 15)),
            seed=int(os.environ.get("SEED") or 4),
            minutes=float(os.environ.get("MINUTES") or 25),
        )


@dataclass
class Soak:
    """A run."""

    size: Size
    apis: list[Api]
    node: str
    expected: dict[str, ExpectedJob] = field(default_factory=dict)
    """By name, of everything that was submitted."""
    live: dict[str, Api] = field(default_factory=dict)
    kept: list[tuple[str, Api]] = field(default_factory=list)
    """Finished and still there, the oldest first."""
    differences: list[str] = field(default_factory=list)
    wrong: int = 0
    """PdfJobs that did not end as predicted."""
    began: float = field(default_factory=time.monotonic)

    @property
    def finished(self) -> int:
        """PdfJobs that have ended."""
        return len(self.expected) - len(self.live)

    def population(self) -> tuple[int, int]:
        """Return how many PdfJobs are live, and how many finished ones are kept."""
        return len(self.live), len(self.kept)

    def run(self, until: int, minutes: float = float("inf")) -> None:
        """Submit up to job number ``until``, keeping the window full, and wait for the ends of all.

        Parameters
        ----------
        minutes
            After so much of the whole soak's time nothing more is submitted.

        Raises
        ------
        AssertionError
            When nothing ends any more.
        """
        moved = time.monotonic()
        while True:
            in_time = time.monotonic() - self.began < minutes * 60
            while in_time and len(self.live) < self.size.window and len(self.expected) < until:
                self._submit(len(self.expected))
            if not self.live:
                return
            if self._collect():
                moved = time.monotonic()
                print(f"{time.monotonic() - self.began:6.0f} s  {self.finished} ended, {self.wrong} not as predicted")
            elif time.monotonic() - moved > _STANDSTILL_SECONDS:
                raise AssertionError(f"nothing has ended for {_STANDSTILL_SECONDS} s; live: {sorted(self.live)}")
            time.sleep(_POLL_SECONDS)

    def remaining(self) -> tuple[list[Raw], list[Raw]]:
        """Return all PdfJobs and PdfChunks that are there."""
        return (
            [raw for api in self.apis for raw in api.list("pdfjobs")],
            [raw for api in self.apis for raw in api.list("pdfchunks")],
        )

    def _submit(self, number: int) -> None:
        plan = plan_of(number, CHUNKS)
        api = self.apis[number % len(self.apis)]
        spec = {
            "source": {"s3": {"key": f"pdfjob/inbox/{api.namespace}/soak.pdf"}},
            "chunking": {"pagesPerChunk": PAGES_PER_CHUNK, "thresholdPages": 0},
            "parallelism": _PARALLELISM,
            "retryPolicy": {
                "maxRetries": plan.max_retries,
                "backoff": {"initialSeconds": 1, "factor": 2, "maxSeconds": 5},
            },
            "failurePolicy": {"maxFailedChunks": plan.max_failed_chunks},
            "output": {"formats": ["jsonl"]},
            "runner": {
                "nodeSelector": {LABEL: self.node},
                "tolerations": [{"key": LABEL, "operator": "Exists", "effect": "NoSchedule"}],
                "resources": _SMALL,
            },
        }
        body = {"apiVersion": "pdfjob.dev/v1alpha1", "kind": "PdfJob", "metadata": {"name": plan.name}, "spec": spec}
        api.create("pdfjobs", body)
        self.expected[plan.name] = predict(self.size.seed, plan)
        self.live[plan.name] = api

    def _collect(self) -> bool:
        """Compare what has ended with the prediction, and delete the oldest that are kept; whether any has ended."""
        try:
            ended = [
                (raw, api, api.list("pdfchunks", f"pdfjob.dev/job-uid={raw['metadata']['uid']}"))
                for api in self.apis
                for raw in api.list("pdfjobs")
                if raw["metadata"]["name"] in self.live and _has_ended(raw)
            ]
        except urllib3.exceptions.HTTPError as error:  # a busy machine; the next look will tell
            print(f"not looked: {error!r}", file=sys.stderr)
            return False
        for raw, api, chunks in ended:
            name = raw["metadata"]["name"]
            found = job_differences(self.expected[name], raw, chunks)
            self.wrong += bool(found)
            self.differences += found
            del self.live[name]
            self.kept.append((name, api))
        while len(self.kept) > self.size.kept:
            name, api = self.kept.pop(0)
            api.delete("pdfjobs", name)
        return bool(ended)


def _has_ended(raw: Raw) -> bool:
    conditions = (raw.get("status") or {}).get("conditions", [])
    return any(item["type"] == "Finished" and item["status"] == "True" for item in conditions)


@dataclass
class Findings:
    """What was found besides the jobs' ends: differences, None where the soak did not come so far."""

    pods: int = 0
    played: list[str] | None = None
    gauges: list[str] | None = None
    counters: list[str] | None = None
    left: list[str] | None = None
    broken_off: str = ""


def main() -> None:
    """Run the soak, print the table, write bench/results/soak.json."""
    size = Size.from_environment()
    if not os.environ.get("AS_INSTALLED"):
        install()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pdfjob-soak-")))
        stack.enter_context(installed_operator_at_rest())
        access, storage = Access.from_kubeconfig(), Storage.connect()
        installed = yaml.safe_load(kubectl_json("get", "configmap", "pdfjob", "-n", SYSTEM)["data"]["config.yaml"])
        token = kubectl("create", "token", "pdfjob", "-n", SYSTEM, "--duration=3h").stdout.strip()
        name = f"soak-{uuid.uuid4().hex[:6]}"
        names = [f"{name}-{letter}" for letter in "ab"]
        stack.callback(remove_objects, storage, names)
        apis = [stack.enter_context(own_namespace(access, each, RESTRICTED)) for each in names]
        for each in names:
            storage.put(f"pdfjob/inbox/{each}/soak.pdf", pdfs.text_pdf(CHUNKS * PAGES_PER_CHUNK))
        lives = folder / "lives.jsonl"
        lives.touch()
        stack.enter_context(simulated_node(name, size.seed, lives))
        operator, port = start_operator(folder, installed, access, token, storage, names)
        stack.enter_context(operator)
        soak, findings = Soak(size, apis, name), Findings()
        watcher = stack.enter_context(Watcher(operator, port, size.kill_seconds, soak.population))
        try:
            _run(soak, watcher, findings)
            findings.left = _left_behind(soak, storage)
        except AssertionError as error:
            findings.broken_off = str(error)
        findings.pods, findings.played = played_differences(lives, soak.expected)
        if soak.differences or findings.broken_off:
            print(operator.tail(30), file=sys.stderr)
        holds = _report(soak, watcher, findings)
        if keep := os.environ.get("KEEP_LOGS"):
            (Path(keep) / "operator.log").write_bytes(operator.log.read_bytes())
            (Path(keep) / "lives.jsonl").write_bytes(lives.read_bytes())
    sys.exit(0 if holds else 1)


def _run(soak: Soak, watcher: Watcher, findings: Findings) -> None:
    """Run the disturbed jobs, then the calm ones, and compare the metrics."""
    _wait_for_operator(watcher)
    soak.run(soak.size.jobs - soak.size.calm, soak.size.minutes)
    watcher.killing = False
    watcher.kill()
    _wait_for_operator(watcher)
    disturbed = len(soak.expected)
    soak.run(disturbed + soak.size.calm)
    calm = set(list(soak.expected)[disturbed:])

    def gauges() -> list[str]:
        return gauge_differences(watcher.samples(), *soak.remaining())

    with contextlib.suppress(AssertionError):  # deletions may be under way for some seconds
        wait_until(lambda: not gauges(), "the gauges agree", 30, 1)
    findings.gauges = gauges()
    _, chunks = soak.remaining()
    own = [chunk for chunk in chunks if chunk["metadata"]["labels"]["pdfjob.dev/job"] in calm]
    findings.counters = counter_differences(watcher.samples(), own)


def _wait_for_operator(watcher: Watcher) -> None:
    """Wait until a process that has not been killed leads."""
    killed = watcher.kills[-1] if watcher.kills else 0.0
    wait_until(lambda: any(look.moment > killed + _DEAD_SECONDS for look in watcher.looks), "the operator leads", 120)


def _left_behind(soak: Soak, storage: Storage) -> list[str]:
    """Delete what is left of the PdfJobs and say what outlives them, but for merged results and history."""
    for api in soak.apis:
        api.delete_all("pdfjobs")

    def objects() -> list[str]:
        plurals = ("pdfjobs", "pdfchunks", "jobs", "pods")
        return [
            f"{plural}/{raw['metadata']['name']}" for api in soak.apis for plural in plurals for raw in api.list(plural)
        ]

    with contextlib.suppress(AssertionError):
        wait_until(lambda: not objects(), "everything is gone", 60, 1)
    keys = [key for api in soak.apis for key in storage.keys(f"pdfjob/jobs/{api.namespace}/")]
    records = {
        key.split("/")[3]
        for api in soak.apis
        for key in storage.keys(f"pdfjob/history/{api.namespace}/")
        if key.endswith("/job.json")
    }
    missing = [f"no history record of {name}" for name in soak.expected if name not in records]
    return [*objects(), *(key for key in keys if not key.endswith("/result.jsonl")), *missing]


def _report(soak: Soak, watcher: Watcher, findings: Findings) -> bool:
    size, wall = soak.size, time.monotonic() - soak.began
    flat = flatness(watcher.looks, life_seconds=size.kill_seconds, live=size.window, kept=size.kept)
    back = sorted(_seconds_down(watcher))
    ended = soak.finished - soak.wrong
    figures = [
        Figure("PdfJobs that ended as predicted", ended, "", goal=f"all {size.jobs}", holds=ended == size.jobs),
        Figure("pods played", findings.pods, ""),
        _none_of("pods played twice, side by side or unforeseen", findings.played),
        Figure("kills of the operator", len(watcher.kills), "", goal="at least 1", holds=bool(watcher.kills)),
        Figure("from a kill until it leads again, longest", back[-1] if back else 0, "s"),
        _none_of("gauges that differ from the resources", findings.gauges),
        _none_of(f"counters that differ from the resources, last life, {size.calm} PdfJobs", findings.counters),
        _none_of("left behind after deletion", findings.left),
        Figure("wall", wall, "s"),
    ]
    if flat is not None:
        goal = f"within {FLAT:.0%} of the first tenth"
        last, first = flat.last / 2**20, flat.first / 2**20
        holds = abs(flat.change) <= FLAT
        figures.append(Figure("resident memory, last tenth of the lives", last, "MiB", first, goal, holds))
        figures.append(Figure("resident memory, highest", flat.highest / 2**20, "MiB"))
    elif size.jobs >= _LARGE:
        figures.append(Figure("lives whose memory could be measured", 0, "", goal="enough to compare", holds=False))
    if findings.broken_off:
        figures.append(Figure("broken off", 1, "", goal="0", holds=False))
    parts = (soak.differences, findings.played, findings.gauges, findings.counters, findings.left)
    told = [line for part in parts for line in part or ()][:40]
    details = {
        "size": {
            "asked": f"{ASKED} PdfJobs of {CHUNKS} chunks, the operator killed every 60 s",
            "jobs": size.jobs,
            "submitted": len(soak.expected),
            "chunks": CHUNKS * len(soak.expected),
            "killSeconds": size.kill_seconds,
            "live": size.window,
            "kept": size.kept,
            "calm": size.calm,
            "seed": size.seed,
        },
        "predicted": _ends(soak),
        "memory": "median RSS of a process in the second half of its life while as many PdfJobs are live and kept as "
        "all through the run; means over the first and the last tenth of the lives",
        "lives": flat.lives if flat is not None else 0,
        "brokenOff": findings.broken_off,
        "differences": told,
    }
    for line in told:
        print(f"  {line}", file=sys.stderr)
    return report("soak", figures, details)


def _none_of(name: str, found: list[str] | None) -> Figure:
    """Tell how much was found of what must not be; what was not looked for does not hold."""
    return Figure(name, len(found or ()), "" if found is not None else "not looked", goal="0", holds=found == [])


def _ends(soak: Soak) -> dict[str, int]:
    jobs = soak.expected.values()
    return {
        "succeeded": sum(job.phase == "Succeeded" and not job.failed for job in jobs),
        "succeededPartly": sum(job.phase == "Succeeded" and bool(job.failed) for job in jobs),
        "failed": sum(job.phase == "Failed" for job in jobs),
        "failedChunks": sum(len(job.failed) for job in jobs),
        "starts": sum(chunk.starts for job in jobs for chunk in job.chunks),
    }


def _seconds_down(watcher: Watcher) -> Iterator[float]:
    """Yield how long it took after each kill until a process led again."""
    for killed in watcher.kills:
        after = [look.moment - killed for look in watcher.looks if look.moment > killed + _DEAD_SECONDS]
        if after:
            yield min(after)


if __name__ == "__main__":
    main()
