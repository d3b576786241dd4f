"""Readable success rules and the 256-entry tables the receiver runs on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .errors import ConfigError

__all__ = ["OPPOSITE_SIGN", "RULES", "SAME_SIGN", "SuccessRule", "success_rule"]

SAME_SIGN = (1, 4)
"""Outcome codes of rule one-per-node in which both nodes clicked with the same sign: (1+,2+) and (1-,2-)."""
OPPOSITE_SIGN = (2, 3)
"""Outcome codes of rule one-per-node with opposite signs: (1+,2-) and (1-,2+)."""

_PATTERNS = 256


@dataclass(frozen=True)
class SuccessRule:
    """A rule as the board runs it.

    `table` gives the outcome code 1..15 of each click pattern, 0 for no success; `windows` says whether a detector has
    one bit (bit i) or an early and a late bit (bits 2i and 2i+1) in the pattern.
    """

    name: str
    windows: bool
    table: tuple[int, ...]
    outcomes: Mapping[int, str]


def _table(outcome_of: Mapping[int, int]) -> tuple[int, ...]:
    return tuple(outcome_of.get(pattern, 0) for pattern in range(_PATTERNS))


def _one_per_node() -> SuccessRule:
    """Exactly one of the detectors 0, 1 (node M1) and exactly one of 2, 3 (node M2)."""
    table = {0b0101: 1, 0b1001: 2, 0b0110: 3, 0b1010: 4}
    return SuccessRule("one-per-node", False, _table(table), {1: "1+ 2+", 2: "1+ 2-", 3: "1- 2+", 4: "1- 2-"})


def _single() -> SuccessRule:
    """Exactly one detector; the outcome is its number plus one."""
    return SuccessRule(
        "single", False, _table({1 << i: i + 1 for i in range(4)}), {i + 1: f"detector {i}" for i in range(4)}
    )


def _any() -> SuccessRule:
    """At least one click; the outcome is the number of clicks."""
    table = {pattern: pattern.bit_count() for pattern in range(1, 16)}
    return SuccessRule("any", False, _table(table), {n: f"{n} clicks" for n in range(1, 5)})


def _time_bin_bell() -> SuccessRule:
    """Bell states of time-bin qubits at one node: detectors 0 and 1, one early and one late click, nothing else."""
    early0, late0, early1, late1 = 1, 2, 4, 8
    table = {early0 | late1: 1, late0 | early1: 1, early0 | late0: 2, early1 | late1: 2}
    return SuccessRule("time-bin-bell", True, _table(table), {1: "psi-", 2: "psi+"})


RULES: dict[str, Callable[[], SuccessRule]] = {
    "one-per-node": _one_per_node,
    "single": _single,
    "any": _any,
    "time-bin-bell": _time_bin_bell,
}


def _n_fold(count: int) -> SuccessRule:
    """Exactly `count` of the four detectors; outcomes number the patterns in rising order."""
    patterns = [pattern for pattern in range(16) if pattern.bit_count() == count]
    names = {k + 1: " ".join(str(i) for i in range(4) if pattern >> i & 1) for k, pattern in enumerate(patterns)}
    return SuccessRule(f"{count}-fold", False, _table({p: k + 1 for k, p in enumerate(patterns)}), names)


def success_rule(rule: str | Mapping[str, int], detectors: Sequence[str]) -> SuccessRule:
    """Return the rule of a run file.

    Parameters
    ----------
    rule : a name of `RULES`, ``"1-fold"`` to ``"4-fold"``, or outcome codes by pattern: names (or numbers) of exactly
        the detectors that click, for example ``{"m1_plus m2_plus" = 1}``.
    detectors : names of the detectors in the order of their inputs.

    Raises
    ------
    ConfigError
        Naming the rule or detector that is not known.
    """
    if not isinstance(rule, str):
        return _exact_patterns(rule, detectors)
    if rule in RULES:
        return RULES[rule]()
    if rule.endswith("-fold") and rule[:-5] in ("1", "2", "3", "4"):
        return _n_fold(int(rule[:-5]))
    names = ", ".join((*RULES, "1-fold to 4-fold"))
    raise ConfigError(f"receiver.success_rule: no rule {rule!r}; there are {names}, or a table of patterns")


def _exact_patterns(codes: Mapping[str, int], detectors: Sequence[str]) -> SuccessRule:
    table: dict[int, int] = {}
    outcomes: dict[int, str] = {}
    for names, code in codes.items():
        pattern = 0
        for name in names.split():
            if name in detectors:
                pattern |= 1 << detectors.index(name)
            elif name.isdecimal() and int(name) < len(detectors):
                pattern |= 1 << int(name)
            else:
                there = ", ".join(detectors)
                raise ConfigError(f"receiver.success_rule: no detector {name!r} in {names!r}; there are {there}")
        if pattern == 0 or pattern in table:
            raise ConfigError(
                f"receiver.success_rule: pattern {names!r} is empty or given twice; give each pattern once"
            )
        table[pattern] = code
        outcomes[code] = f"{outcomes[code]} or {names}" if code in outcomes else names
    return SuccessRule("patterns", False, _table(table), outcomes)
