"""Speed of the fast twin: slots and successes per second and the ratio to real time. Prints with --benchmark-enable."""

import pytest
from fast_runs import config_of, relay_of

SLOT_RATE_HZ = 304.52e6
CASES = {
    "300 km, successes": (300.0, "off", 100_000_000_000, 3_000_000_000_000),
    "100 km, successes": (100.0, "off", 1_000_000_000, 100_000_000_000),
    "100 km, all clicks": (100.0, "all", 4_000_000, 400_000_000),
}


@pytest.mark.benchmark(group="fast twin")
@pytest.mark.parametrize(("length_km", "clicks", "few", "many"), CASES.values(), ids=CASES)
def test_speed(benchmark, capsys, length_km, clicks, few, many):
    slots = many if benchmark.enabled else few
    config = config_of(slots, length_km=length_km, events=f'clicks = "{clicks}"')

    def run():
        return [(len(part.successes), len(part.clicks)) for part in relay_of(config).parts()]

    drawn = benchmark.pedantic(run, rounds=3 if benchmark.enabled else 1, warmup_rounds=int(benchmark.enabled))
    successes, recorded = (sum(column) for column in zip(*drawn, strict=True))
    assert successes > 100
    assert (recorded > 0) == (clicks == "all")
    if benchmark.enabled:
        seconds = benchmark.stats["median"]
        figures = {
            "slots_per_s": slots / seconds,
            "successes_per_s": successes / seconds,
            "clicks_per_s": recorded / seconds,
            "real_time_ratio": slots / seconds / SLOT_RATE_HZ,
        }
        benchmark.extra_info |= figures
        with capsys.disabled():
            print(f"\n{length_km:g} km, clicks {clicks}:", *(f"{name} {value:.3g}" for name, value in figures.items()))
