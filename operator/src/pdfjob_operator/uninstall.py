"""First step of an uninstall: delete every PdfJob and wait until the operator has ended them.

``python -m pdfjob_operator.uninstall [--namespace NS]... [--timeout SECONDS]``, run by the chart's hook. The operator
must still be there: it stops runner pods, removes intermediate objects and lets go of each PdfJob. Merged results stay.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from time import monotonic
from typing import Final

from .storage.kubernetes import PDFJOBS, Cluster, ForbiddenError, KubernetesError, NotFoundError

_POLL_SECONDS: Final = 2.0
_NAMED: Final = 10
"""So many of the PdfJobs that are left are named in the message."""


async def delete_all(cluster: Cluster, namespaces: Sequence[str], patience: float) -> tuple[str, ...]:
    """Delete all PdfJobs of these namespaces (none named = of the cluster) and wait.

    A cluster without the CRD has none. The API server being away for a while is waited out.

    Parameters
    ----------
    patience
        Seconds to wait at most.

    Returns
    -------
    tuple of str
        Those that are still there after the time, as ``namespace/name``.

    Raises
    ------
    ForbiddenError
        When the account may not list or delete PdfJobs.
    """
    deadline = monotonic() + patience
    asked: set[str] = set()
    said = -1
    while True:
        left = await _sweep(cluster, namespaces, asked)
        if left is not None and len(left) != said:
            _say(f"{len(left)} PdfJobs left")
            said = len(left)
        if left is not None and not left:
            return ()
        if monotonic() >= deadline:
            return tuple(left or ("PdfJobs that could not be listed",))
        await asyncio.sleep(_POLL_SECONDS)


async def _sweep(cluster: Cluster, namespaces: Sequence[str], asked: set[str]) -> list[str] | None:
    """Ask once for the deletion of each PdfJob; return those that exist, None when the API server is away."""
    left: list[str] = []
    try:
        for scope in namespaces or (None,):
            items, _ = await cluster.list_all(PDFJOBS, scope)
            for item in items:
                meta = item["metadata"]
                left.append(f"{meta['namespace']}/{meta['name']}")
                if meta["uid"] not in asked:
                    await cluster.delete(PDFJOBS, meta["namespace"], meta["name"], meta["uid"])
                    asked.add(meta["uid"])
    except NotFoundError:
        return []  # no CRD, no PdfJobs
    except ForbiddenError:
        raise
    except KubernetesError as error:
        _say(f"the API server does not answer, trying again: {error}")
        return None
    return left


async def _run(namespaces: Sequence[str], patience: float) -> int:
    where = f"in {', '.join(namespaces)}" if namespaces else "in all namespaces"
    _say(f"deleting every PdfJob {where}; waiting up to {patience:.0f} s for the operator to end them")
    cluster = await Cluster.connect()
    try:
        left = await delete_all(cluster, namespaces, patience)
    except ForbiddenError as error:
        _say(f"not allowed: {error}")
        return 1
    finally:
        await cluster.close()
    if not left:
        _say("no PdfJob is left")
        return 0
    named = ", ".join(left[:_NAMED]) + (f" and {len(left) - _NAMED} more" if len(left) > _NAMED else "")
    _say(
        f"still there after {patience:.0f} s: {named}. Does the operator run, and does it reach "
        "its storage? Its log says why. Run helm uninstall again, or skip this step with --no-hooks."
    )
    return 1


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 1 when PdfJobs are left."""
    parser = argparse.ArgumentParser(prog="python -m pdfjob_operator.uninstall", description="Delete every PdfJob.")
    parser.add_argument("--namespace", action="append", default=[], help="only here; may be given more than once")
    parser.add_argument("--timeout", type=float, default=240, help="seconds to wait at most (default 240)")
    options = parser.parse_args(arguments)
    return asyncio.run(_run(options.namespace, options.timeout))


if __name__ == "__main__":
    sys.exit(main())
