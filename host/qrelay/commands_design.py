"""What `design` does."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .commands_physics import PLOTS, as_config_errors, block_of, check_output, print_table, progress_bar
from .json_output import print_json

if TYPE_CHECKING:
    from qrelay_sim.design import Design, Requirement

__all__ = ["design"]

_MAP_POINTS = 25


def design(
    protocol: str,
    preset: str,
    distance_km: float,
    *,
    slots: float,
    epsilon: float | None,
    plot: Path | None,
    workers: int | None,
    as_json: bool,
) -> int:
    """Compute, show and draw what a finite key needs."""
    check_output(plot, "plot", PLOTS)
    workers = workers or os.cpu_count() or 1
    with as_config_errors():
        import numpy as np

        from qrelay_sim.design import design as find
        from qrelay_sim.design import design_map, largest_useful_g2
        from qrelay_sim.parameter_file import read_parameters

        relay = read_parameters(preset).for_length(distance_km)
        block = block_of(slots, epsilon)
        assert block is not None
        with progress_bar("parameters", quiet=as_json) as report:
            found = find(protocol, relay, block, workers=workers, on_progress=report)
        if plot is not None:
            from qrelay_sim.design_plot import plot_design

            overlaps = np.linspace(min(0.85, relay.overlap - 0.02), 1.0, _MAP_POINTS)
            g2s = np.linspace(0.0, 1.15 * max(0.005, relay.g2, largest_useful_g2(protocol, relay, block)), _MAP_POINTS)
            with progress_bar("map", quiet=as_json) as report:
                grid = design_map(protocol, relay, block, overlaps, g2s, workers=workers, on_progress=report)
            plot_design(found, grid, plot)
    if as_json:
        print_json(_as_json(found))
        return 0
    _print(found)
    if plot is not None:
        print(f"written: {plot}")
    return 0


def _as_json(found: "Design") -> dict[str, Any]:
    from qrelay_sim.design import limiting

    per_second = found.relay.slot_rate_hz * found.relay.duty
    return {
        "provenance": {"kind": "model", "preset": found.relay.name},
        "protocol": found.protocol,
        "distance_km": found.relay.total_km,
        "slots": found.block.slots,
        "seconds": found.block.slots / per_second,
        "epsilon": found.block.epsilon.total,
        "rate_bit_per_slot": found.rate,
        "rate_bit_per_s": found.rate * per_second,
        "key_bits": int(found.rate * found.block.slots),
        "limited_by": limiting(found),
        "requirements": [
            {
                "parameter": row.parameter,
                "value": row.value,
                "needed": row.needed,
                "factor": row.factor,
                "enough_alone": row.needed is not None,
                "rate_if_best_bit_per_s": row.rate_if_best * per_second,
            }
            for row in found.requirements
        ],
    }


def _print(found: "Design") -> None:
    from qrelay_sim.design import limiting

    relay, block = found.relay, found.block
    per_second = relay.slot_rate_hz * relay.duty
    print(
        f"model, preset {relay.name}, {found.protocol}, {relay.total_km:g} km, "
        f"{block.slots:.3g} slots ({_duration(block.slots / per_second)}), epsilon {block.epsilon.total:.3g}"
    )
    if found.rate:
        print(f"key: {found.rate * block.slots:.4g} bits, {found.rate * per_second:.3g} bit/s")
    else:
        print("key: none")
    head = ("", "is", "limit for a key", "room", "bit/s if it were ideal")
    print_table(head, [_row(row, per_second) for row in found.requirements])
    name = limiting(found)
    if found.rate:
        print(f"limited by {name}: the parameter with the least room")
    elif name is not None:
        print(f"limited by {name}: of the parameters that alone would give a key, the one that has to improve least")
    else:
        print("no parameter alone gives a key: improve several, or shorten the fibre")


def _row(row: "Requirement", per_second: float) -> list[str]:
    unit = f" {row.unit}" if row.unit else ""
    if row.needed is None:
        needed, room = "not enough alone", ""
    else:
        needed = f"{row.needed:.4g}"
        room = "" if row.factor is None else _room(row.factor)
    if row.parameter == "slots" and row.needed is not None:
        needed += f" ({_duration(row.needed / per_second)})"
    best = f"{row.rate_if_best * per_second:.3g}" if row.rate_if_best else "0"
    return [row.parameter, f"{row.value:.4g}{unit}", needed, room, best]


def _room(factor: float) -> str:
    """How much worse the parameter may get, or how much better it has to."""
    return f"may be {factor:.3g}x worse" if factor >= 1 else f"must be {1 / factor:.3g}x better"


def _duration(seconds: float) -> str:
    for size, unit in ((86400.0 * 365, "a"), (86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
