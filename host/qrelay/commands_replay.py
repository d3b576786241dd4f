"""What the `replay` command does."""

from pathlib import Path

import numpy as np

from .choice_keys import SENDERS
from .commands import summary_of
from .conclude import RunOutcome
from .errors import RunError
from .json_output import print_json
from .live_view import print_summary
from .replay import replay
from .run_folder import write_json, write_secret

__all__ = ["replay_run"]


def replay_run(folder: Path, *, as_json: bool) -> int:
    """Show the result of a run folder made anew; 0 if it is that of ``result.json``, or the first and now written."""
    from .plots import plot_run

    found = replay(folder)
    first = found.same is None
    outcome = RunOutcome(found.result, found.manifest, str(folder), found.manifest["trouble"])
    shown = summary_of(outcome) | {"same_as_result_json": found.same, "run_folder": str(folder)}
    shown["warnings"] += found.damage
    if first:
        write_json(folder / "result.json", found.result)
        for name in SENDERS:
            write_secret(folder / f"{name}.sifted-key", np.packbits(found.sifted[name]).tobytes())
        shown["plots"] = plot_run(str(folder), found.config, found.manifest, found.result, shown["warnings"].append)
    else:
        shown["plots"] = []
    if as_json:
        print_json(shown)
    else:
        print_summary(shown)
        print("result.json is written" if first else f"result.json is {'the same' if found.same else 'ANOTHER'}")
    if found.same is False:
        raise RunError(
            f"{folder / 'result.json'} is not what the records of its folder give: one of the files was changed, or "
            "another version made it"
        )
    return 0
