"""The fast twin: all parts of a run in order, drawn by threads on all cores."""

import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from qrelay.choice_keys import ChoiceKey
from qrelay.config import RunConfig

from .cells import Cell, Choices, Kind, cells_of
from .click_part import click_part
from .parts import Part
from .plan import Plan
from .success_part import success_part

__all__ = ["FastRelay"]

_CLICK_CELLS = 8
"""Cells of one task where all clicks are drawn: neighbours are drawn twice, so that more is cheaper."""


class FastRelay:
    """Draws a run without stepping through its slots.

    What comes out depends on the run file, the keys and the seed alone: not on the number of threads, and up to where
    it is stopped not on when that is.

    Parameters
    ----------
    config, keys : the run, and the choice keys of "alice" and "bob".
    origin : slot index at which frames begin.
    first_slot, end_slot : the run's slots; None: no end.
    workers : threads, all cores if left out.
    """

    def __init__(
        self,
        config: RunConfig,
        keys: Mapping[str, ChoiceKey],
        *,
        origin: int,
        first_slot: int,
        end_slot: int | None,
        workers: int | None = None,
    ) -> None:
        self.plan = Plan.of(config, keys, origin, first_slot, end_slot)
        self.workers = workers or os.cpu_count() or 1
        self._local = threading.local()

    def parts(self, stop: threading.Event | None = None) -> Iterator[Part]:
        """Parts in order until the run ends or `stop` is set; a few are drawn ahead, so memory is bounded."""
        stop = stop or threading.Event()
        with ThreadPoolExecutor(self.workers, thread_name_prefix="fast-twin") as pool:
            waiting: deque[Future[Part]] = deque()
            try:
                for task in _tasks(self.plan):
                    waiting.append(pool.submit(self._draw, *task))
                    if len(waiting) > 2 * self.workers:
                        yield waiting.popleft().result()
                    if stop.is_set():
                        break
                while waiting and not stop.is_set():
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _draw(self, cells: list[Cell], before: list[Cell], after: list[Cell]) -> Part:
        if not hasattr(self._local, "choices"):
            self._local.choices = Choices(self.plan)
        if cells[0].kind == Kind.SUCCESSES:
            return success_part(self.plan, self._local.choices, cells[0])
        return click_part(self.plan, self._local.choices, cells, before, after)


def _tasks(plan: Plan) -> Iterator[tuple[list[Cell], list[Cell], list[Cell]]]:
    """Cells that are drawn together, with the neighbours that reach into them."""
    cells = cells_of(plan)
    ahead: deque[Cell] = deque()
    before: list[Cell] = []
    while True:
        ahead.extend(islice(cells, _CLICK_CELLS + 1 - len(ahead)))
        if not ahead:
            return
        group = [ahead.popleft()]
        while group[0].kind == Kind.CLICKS and ahead and ahead[0].kind == Kind.CLICKS and len(group) < _CLICK_CELLS:
            group.append(ahead.popleft())
        after = [ahead[0]] if plan.backward and ahead and ahead[0].kind == Kind.CLICKS else []
        yield group, before, after
        before = [group[-1]] if plan.coupled else []
