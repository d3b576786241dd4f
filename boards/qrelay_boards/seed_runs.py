"""Place and route with several seeds at once, as many as processors and memory allow."""

import os
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

__all__ = ["NEXTPNR_BYTES", "default_jobs", "free_bytes", "run_seeds", "stage_of"]

NEXTPNR_BYTES = 1_500_000_000
"""Memory of one place and route of a full station."""
HEARTBEAT_S = 60.0
"""Time between two lines that say how far the running seeds are."""

_STAGES = (("Routing..", "routing"), ("placer", "placing"), ("Packing", "packing"))
"""Sign in nextpnr's log -> stage, the last one first."""


def free_bytes() -> int | None:
    """Memory that new processes can take; None where the system does not tell."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else int(found[1]) * 1024


def default_jobs(seeds: int, processors: int | None = None, memory: int | None = None) -> int:
    """Seeds to run at once: at most one for each processor, and what fits into `memory` bytes; at least one."""
    processors = processors or os.cpu_count() or 1
    memory = free_bytes() if memory is None else memory
    room = seeds if memory is None else memory // NEXTPNR_BYTES
    return max(1, min(seeds, processors, room))


def stage_of(log: Path) -> str:
    """What a place and route is at, from its log."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return "waiting"
    return next((stage for sign, stage in _STAGES if sign in text), "reading")


def run_seeds(
    seeds: int,
    run: Callable[[int, threading.Event], float],
    *,
    jobs: int,
    log_of: Callable[[int], Path],
    done: Callable[[int, float], None],
    progress: Callable[[str], None],
    heartbeat_s: float = HEARTBEAT_S,
) -> None:
    """Call ``run(seed, stop)`` for seeds 1 to `seeds` in threads, `jobs` at once.

    It returns its processor time in seconds, and ends soon when `stop` is set. `done` is called here, in the order in
    which seeds end, and `progress` with a line on the running ones from time to time. Raises what the first failing run
    raised, or KeyboardInterrupt; the other seeds are then stopped or do not begin.
    """
    began: dict[int, float] = {}
    stop = threading.Event()

    def begin(seed: int) -> float:
        if stop.is_set():
            return 0.0
        began[seed] = time.monotonic()
        return run(seed, stop)

    with ThreadPoolExecutor(jobs, thread_name_prefix="seed") as pool:
        running: dict[Future[float], int] = {pool.submit(begin, seed): seed for seed in range(1, seeds + 1)}
        try:
            while running:
                ended, _ = wait(running, timeout=heartbeat_s, return_when=FIRST_COMPLETED)
                for future in sorted(ended, key=running.__getitem__):
                    done(running.pop(future), future.result())
                if not ended:
                    now = time.monotonic()
                    states = [
                        f"seed {seed} {stage_of(log_of(seed))} ({(now - began[seed]) / 60:.0f} min)"
                        for seed in running.values()
                        if seed in began
                    ]
                    progress(", ".join(states))
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
