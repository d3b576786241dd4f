"""A relay in Python in place of the twin."""

import pytest
from fake_station import FakeRelay

import qrelay.bench


@pytest.fixture
def relay(monkeypatch):
    """Run files that ask for the twin get a `FakeRelay` with these options instead."""
    options = {}
    relays = []

    def start(config, progress, *, link="tcp"):
        relays.append(FakeRelay(config.twin_settings(), **options))
        return relays[-1]

    monkeypatch.setattr(qrelay.bench, "start_twin", start)
    options["relays"] = relays

    class Handle:
        def set(self, **values):
            options.update(values)

        @property
        def now(self):
            return relays[-1]

    del options["relays"]
    return Handle()
