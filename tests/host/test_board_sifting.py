"""When draws of announced slots are asked for, and when a key may go: with senders and records by hand."""

import signal
import threading
import time

import numpy as np
import pytest

from qrelay.board_sifting import BoardSifting
from qrelay.errors import LinkError, RunError
from qrelay.protocol.records import RecordKind
from qrelay.sifting import Announcements


class Sender:
    """Keeps two keys: the second from slot 100,000 on."""

    def __init__(self, name="alice"):
        self.name = name
        self.stopped_slot = None
        self.asked = []
        self.horizons = []
        self.audited = 0
        self.lost = False
        self.erased = False
        self.kept = None

    def check(self):
        pass

    def why_stopped(self):
        return f"station {self.name}: stopped"

    def answer(self, slots):
        if self.lost:
            raise LinkError("lost")
        self.asked += slots.tolist()

    def answer_audit(self):
        self.audited += 1

    def retirable(self):
        return 100_000

    def retire(self, horizon):
        self.horizons.append(horizon)
        return []

    def health(self):
        pass

    def erase_all(self):
        if self.lost:
            raise LinkError("lost")
        self.erased = True


class Records:
    """Stands for the collector: which kinds have arrived, and where the receiver is."""

    def __init__(self):
        self.complete = {RecordKind.KEY: True, RecordKind.SUCCESS: True}
        self.slot = 0
        self.late = None

    def arrived(self, station, kind):
        if kind == RecordKind.SUCCESS and self.late is not None:
            self.late()
        return self.complete[kind]

    def receiver_slot(self):
        return self.slot


class Tally:
    def __init__(self):
        self.slots = []

    def add(self, announcements):
        self.slots += announcements.slots.tolist()


class Folder:
    def log(self, event, **values):
        pass


@pytest.fixture
def bench():
    senders = [Sender("alice"), Sender("bob")]
    tally = Tally()
    return BoardSifting(senders, Folder(), tally), senders, tally, Records()


def announced(*slots):
    return Announcements(np.array(slots, np.uint64), np.full(len(slots), 1, np.uint8))


def test_nothing_is_asked_before_its_key_record_is_here(bench):
    sifting, senders, tally, records = bench
    sifting.add(announced(8, 9))
    records.complete[RecordKind.KEY] = False
    assert sifting.proceed(records) is False
    assert senders[0].asked == tally.slots == []
    assert sifting.end_slot == 8
    records.complete[RecordKind.KEY] = True
    assert sifting.proceed(records) is True
    assert senders[0].asked == senders[1].asked == tally.slots == [8, 9]
    assert sifting.end_slot is None


def test_a_key_goes_by_what_the_receiver_has_told(bench):
    """Its last success tells; or its counter, once its queue is empty and nothing is in flight."""
    sifting, senders, _, records = bench
    sifting.add(announced(50_000, 90_000))
    sifting.proceed(records)
    assert senders[0].horizons == [90_000]
    records.slot = 150_000
    records.complete[RecordKind.SUCCESS] = False
    sifting.proceed(records)
    assert senders[0].horizons[-1] == 90_000
    records.complete[RecordKind.SUCCESS] = True
    sifting.proceed(records)
    assert 100_000 < senders[0].horizons[-1] < 150_000 - 2048
    # A success that comes with the answer is not answered yet.
    sifting, senders, _, records = BoardSifting([Sender()], None, Tally()), None, None, records
    records.late = lambda: sifting.add(announced(99_999))
    sifting.proceed(records)
    assert sifting.senders[0].horizons == [0]
    records.late = None
    sifting.add(announced(140_000))
    sifting.proceed(records)
    assert sifting.senders[0].horizons[-1] == 140_000


def test_slots_without_choices_are_left(bench):
    sifting, senders, tally, records = bench
    senders[1].stopped_slot = 96
    sifting.add(announced(95, 96, 200))
    with pytest.raises(RunError, match="station bob: stopped"):
        sifting.proceed(records)
    assert tally.slots == [95]
    assert sifting.end_slot == 96
    assert senders[0].horizons == []
    sifting.finish(records, audit_over=True)  # which is no error any more
    assert senders[0].audited == 1


def test_a_lost_sender_leaves_what_it_has_not_answered(bench):
    sifting, senders, tally, records = bench
    sifting.add(announced(10))
    sifting.proceed(records)
    senders[0].lost = True
    sifting.add(announced(20, 30))
    for _ in range(2):
        with pytest.raises(LinkError):
            sifting.proceed(records)
    assert tally.slots == [10]
    assert sifting.end_slot == 20


def test_keys_go_when_all_is_answered(bench):
    sifting, senders, _, records = bench
    sifting.add(announced(10, 20))
    sifting.finish(records, audit_over=True)
    assert sifting.all_answered
    sifting.end()
    assert [(sender.erased, sender.kept) for sender in senders] == [(True, None)] * 2


def test_keys_stay_while_something_is_not_answered(bench):
    """Also those of the sender that still answers: what the other one drew is of no use without them."""
    sifting, senders, _, records = bench
    senders[0].lost = True
    sifting.add(announced(20, 30))
    with pytest.raises(LinkError):
        sifting.finish(records, audit_over=True)
    assert not sifting.all_answered
    sifting.end()
    for sender in senders:
        assert not sender.erased
        assert sender.kept == (
            "2 announcements are not answered; the next run in which this station makes its own keys erases them"
        )


@pytest.mark.parametrize("pending", [(), (20, 30)])
def test_keys_stay_when_sifting_gives_up(bench, monkeypatch, pending):
    sifting, senders, _, records = bench
    monkeypatch.setattr("qrelay.board_sifting._FINISH_LIMIT_S", 0.1)
    records.complete[RecordKind.KEY] = False
    sifting.add(announced(*pending))
    message = f"^{len(pending)} announcements are not answered after 0.1 s: a key record did not arrive$"
    with pytest.raises(RunError, match=message):
        sifting.finish(records, audit_over=True)
    sifting.end()
    assert [sender.erased for sender in senders] == [False, False]
    assert all("the next run" in sender.kept for sender in senders)


def test_keys_go_where_choices_stopped(bench):
    """What was announced of slots that nobody drew needs no answer."""
    sifting, senders, _, records = bench
    senders[1].stopped_slot = 96
    sifting.add(announced(95, 96, 200))
    sifting.finish(records, audit_over=True)
    sifting.end()
    assert all(sender.erased for sender in senders)


def test_a_sender_that_is_lost_at_the_very_end_keeps_its_keys(bench):
    sifting, senders, _, records = bench
    sifting.finish(records, audit_over=True)
    senders[0].lost = True
    sifting.end()
    assert [sender.erased for sender in senders] == [False, True]
    assert senders[0].kept.startswith("lost; the next run")


def test_nobody_is_left_at_a_link_when_the_other_is_lost(bench):
    sifting, (alice, bob), _, records = bench
    alice.lost = True
    answer = bob.answer

    def slowly(slots):
        time.sleep(0.2)
        answer(slots)

    bob.answer = slowly
    sifting.add(announced(20, 30))
    with pytest.raises(LinkError):
        sifting.proceed(records)
    assert bob.asked == [20, 30]


@pytest.fixture
def interrupts():
    """One entry per Ctrl-C that the main thread has seen."""
    seen = []

    def interrupt(number, frame):
        seen.append(number)
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGINT, interrupt)
    yield seen
    signal.signal(signal.SIGINT, previous)


@pytest.mark.parametrize("comes_next", ["answer", "erase"])
def test_a_second_interrupt_lets_nobody_in_at_a_busy_link(bench, interrupts, comes_next):
    """Draws are asked for in several requests, which must not mix with those of whoever comes next."""
    sifting, (alice, bob), _, records = bench
    main, go, steps = threading.get_ident(), threading.Event(), []

    def answer(slots):
        steps.append("begins")
        for count in (1, 2) if not interrupts else ():
            time.sleep(0.1)
            signal.pthread_kill(main, signal.SIGINT)
            while len(interrupts) < count:
                time.sleep(0.01)
        go.wait()
        steps.append("ends")

    bob.answer = answer
    alice.erase_all = lambda: None
    bob.erase_all = lambda: steps.append("erased")
    sifting.add(announced(20, 30))
    with pytest.raises(KeyboardInterrupt):
        sifting.proceed(records)
    assert steps == ["begins"]
    threading.Timer(0.3, go.set).start()
    if comes_next == "answer":
        sifting.proceed(records)
        assert steps == ["begins", "ends", "begins", "ends"]
    else:
        sifting.erase()
        assert steps == ["begins", "ends", "erased"]
