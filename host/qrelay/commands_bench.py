"""What `bench` does."""

import sys
from contextlib import ExitStack
from typing import Any

from .commands_physics import print_table, progress_bar
from .errors import RunError
from .json_output import print_json
from .link_rate import bytes_per_packet, link_records_per_second, measure, records_per_second
from .protocol.packets import MAX_RECORDS
from .protocol.usb import link_name

__all__ = ["bench"]


def bench(urls: list[str], *, twin: bool, seconds: float, as_json: bool) -> int:
    """Show what each board's link sustains by computation, and what the links at `urls` carry."""
    computed = _computed()
    measured = []
    with ExitStack() as stack:
        if twin:
            urls = [*urls, _twin_url(stack)]
        for url in urls:
            measured.append(_measured(url, seconds, quiet=as_json))
    if as_json:
        print_json({"computed": computed, "measured": measured})
        return 0
    head = ("board", "link", "bytes per record", "records/s", "in single packets")
    print(f"computed, not measured: event packets of {MAX_RECORDS} records, answers to the host not counted;")
    print("USB high speed at the most that bulk transfers carry, 13 packets of 512 bytes in 125 us: hosts reach less")
    print_table(
        head,
        [
            [
                entry["board"],
                link_name(entry["baud"]),
                f"{entry['bytes_per_record']:.2f}",
                f"{entry['records_per_second']:.0f}",
                f"{entry['records_per_second_single']:.0f}",
            ]
            for entry in computed
        ],
    )
    for entry in measured:
        _print(entry)
    return 0


def _computed() -> list[dict[str, Any]]:
    from qrelay_boards import boards

    return [
        {
            "board": board.name,
            "baud": board.wiring.link_bps,
            "bytes_per_record": bytes_per_packet() / MAX_RECORDS,
            "records_per_second": records_per_second(board.wiring.link_bps),
            "records_per_second_single": records_per_second(board.wiring.link_bps, 1),
        }
        for board in boards().values()
    ]


def _twin_url(stack: ExitStack) -> str:
    from .bench import start_twin
    from .config import parse_config
    from .demo_config import demo_text

    twin = stack.enter_context(start_twin(parse_config(demo_text(), "demo"), lambda text: print(text, file=sys.stderr)))
    url: str = twin.urls["receiver"]
    return url


def _measured(url: str, seconds: float, *, quiet: bool) -> dict[str, Any]:
    from .board import Board

    with Board.open(url) as board, progress_bar(f"clicks over {url}", quiet=quiet) as report:
        identity = board.identity
        if not identity.detectors:
            raise RunError(f"station at {url} ({identity.board}) has no detectors whose clicks could fill its link")
        rate = measure(board, seconds, progress=report)
    sustained = link_records_per_second(identity)
    return {
        "url": url,
        "board": identity.board,
        "baud": identity.link_baud,
        "share_of_computed": (rate.per_second if identity.link_baud else rate.per_station_second) / sustained,
        **rate.facts(),
    }


def _print(entry: dict[str, Any]) -> None:
    share = f"{100 * entry['share_of_computed']:.1f} %"
    baud = entry["baud"]
    print(
        f"measured: {entry['board']} at {entry['url']}: {entry['records_per_second']:.0f} records/s"
        + (f", {share} of what {link_name(baud)} carries at most" if baud else " on the wall")
    )
    print(
        f"  {entry['records']} records in {entry['seconds']:.2f} s; {entry['lost']} lost on the way, "
        f"{entry['dropped']} found their queue full, as they must"
    )
    if not baud:
        print(
            f"  no bit rate, one byte per word: {entry['records_per_station_second']:.4g} records/s by the station's "
            f"own clock, {share} of what that carries"
        )
