"""Sequences of commands to a keystream and what must come of them; the same for both simulators.

The expectation is a model of the contract: it knows keys and nonces, counts words, and takes the draws from the golden
model.
"""

from collections import namedtuple
from dataclasses import dataclass, field

import numpy as np

from qrelay_gateware.keystream import Keystream
from qrelay_sim.golden.keystream import draws

Key = namedtuple("Key", "key")
Load = namedtuple("Load", "")
Settings = namedtuple("Settings", "nonce stream enable", defaults=(0, 1))
Go = namedtuple("Go", "start_slot nonce", defaults=(None,))
Halt = namedtuple("Halt", "")
GoAndHalt = namedtuple("GoAndHalt", "start_slot")
Words = namedtuple("Words", "words")

ALL_SLOTS = 1 << 48


def key_words(key: bytes):
    return np.frombuffer(key, "<u4").tolist()


def random_key(seed):
    return np.random.default_rng(seed).bytes(32)


def start(key, nonce, stream, start_slot, words):
    """Load a key and run; the settings are there before the key is ready."""
    return [
        Key(key),
        Load(),
        Settings(nonce, stream),
        Words(Keystream.expansion_latency + 3),
        Go(start_slot),
        Words(words),
    ]


RUNS_ON = [
    *start(random_key(1), 1, 0, 0, Keystream.latency + 1200),
]
START_SLOTS = [
    Key(random_key(2)),
    Load(),
    Words(Keystream.expansion_latency),
    *(
        command
        for nonce, start_slot in enumerate(
            [
                8,
                8 * 0xFF,
                8 * (2**32 - 2),
                8 * (2**40 + 255),
                2**47 + 80,
                ALL_SLOTS - 8,
                ALL_SLOTS - 8 * 9,
                2**48 - 2**16,
            ],
            1,
        )
        for command in (Settings(nonce << 56 | nonce, 0xA5C3), Words(2), Go(start_slot), Words(Keystream.latency + 60))
    ),
    Halt(),
    Words(10),
]
HALT_AND_RESTART = [
    *start(random_key(3), 5, 7, 800, Keystream.latency + 33),
    Halt(),
    Words(100),
    Settings(6, 7),
    Words(2),
    Go(1600),
    Words(20),  # halted while the pipeline fills
    Halt(),
    Words(3),
    Settings(7, 7),
    Words(2),
    Go(2400),
    Words(Keystream.latency + 20),
    Settings(8, 9),
    Words(2),
    Go(80),  # starts anew while running
    Words(Keystream.latency + 20),
    Settings(9, 9),
    Words(2),
    Go(88),
    Words(11),  # and while filling
    Settings(10, 9),
    Words(2),
    Go(96),
    Words(Keystream.latency + 20),
    Settings(11, 9),
    Words(2),
    GoAndHalt(0),
    Words(Keystream.latency + 5),
    Go(8),
    Words(Keystream.latency + 5),
]
FRESHNESS = [
    Go(0),  # no key
    Words(3),
    *start(random_key(4), 100, 1, 0, Keystream.latency + 4),
    Go(8),  # nonce used: stops what runs
    Words(Keystream.latency + 4),
    Settings(99, 1),
    Words(2),
    Go(8),  # lower nonce
    Words(Keystream.latency + 4),
    Settings(101, 1, 0),
    Words(2),
    Go(8),  # not enabled
    Words(Keystream.latency + 4),
    Settings(100, 1),
    Go(8, nonce=101),  # written in this very word: not yet fresh
    Words(Keystream.latency + 4),
    Go(8),
    Words(Keystream.latency + 4),
    Settings(2**64 - 1, 1),
    Words(2),
    Go(16, nonce=102),  # the nonce found fresh is used, not the one written in the word of go
    Words(Keystream.latency + 4),
    Settings(2**64 - 1, 1),
    Words(2),
    Go(16),
    Words(Keystream.latency + 4),
]
NEW_KEYS = [
    *start(random_key(5), 2**64 - 1, 3, 64, Keystream.latency + 9),
    Key(random_key(6)),  # not yet in use
    Words(30),
    Load(),  # stops the run
    Words(Keystream.expansion_latency - 3),
    Go(0),  # not ready
    Words(40),
    Settings(0, 3),  # any nonce for a new key
    Words(2),
    Go(64),
    Words(Keystream.latency + 9),
    Load(),
    Words(50),
    Load(),  # again, in the middle of the expansion
    Words(Keystream.expansion_latency + 5),
    Go(128),
    Words(Keystream.latency + 9),
]
CASES = {
    "runs_on": RUNS_ON,
    "start_slots": START_SLOTS,
    "halt_and_restart": HALT_AND_RESTART,
    "freshness": FRESHNESS,
    "new_keys": NEW_KEYS,
}


def random_case(seed):
    """Commands in random order and at random times."""
    random = np.random.default_rng(seed)
    commands = start(random.bytes(32), 1000, 0, 0, 60)
    nonce = 1000
    for _ in range(40):
        match int(random.choice(7, p=[0.04, 0.06, 0.3, 0.3, 0.05, 0.05, 0.2])):
            case 0:
                commands.append(Key(random.bytes(32)))
            case 1:
                commands += [Load(), Words(int(random.integers(2 * Keystream.expansion_latency)) + 8)]
            case 2:
                nonce += int(random.integers(-1, 4))
                commands += [Settings(nonce, int(random.integers(1 << 16)), int(random.random() < 0.9))]
            case 3:
                commands.append(Go(int(random.integers(1 << 45)) * 8))
            case 4:
                commands.append(Halt())
            case 5:
                commands.append(GoAndHalt(8))
            case 6:
                commands.append(Words(int(random.integers(80))))
    return commands


@dataclass
class Model:
    """The contract of the keystream, word by word."""

    key_window: bytes = bytes(32)
    key: bytes | None = None
    ready_in: int = -1
    nonce: int = 0
    stream: int = 0
    enable: int = 0
    seen: tuple = (0, 0)
    nonce_used: int = -1
    fresh: bool = False
    run: tuple | None = None
    words: int = 0
    drawn: list = field(default_factory=list)

    @property
    def ready(self):
        return self.key is not None and self.ready_in == 0

    def outputs(self):
        """(valid, draws, ready, fresh) of the present word."""
        word = self.words - Keystream.latency
        if self.run is None or word < 0:
            return 0, 0, int(self.ready), int(self.fresh)
        if word >= len(self.drawn):
            more = draws(*self.run[:3], (self.run[3] + 4 * word) % ALL_SLOTS, 4096).reshape(-1, 4)
            self.drawn += [sum(int(draw) << 16 * lane for lane, draw in enumerate(four)) for four in more]
        return 1, self.drawn[word], int(self.ready), int(self.fresh)

    def step(self, *, load=0, go=None, halt=0):
        """The word ends."""
        starts = go is not None and self.fresh and not halt and not load
        self.words += 1
        if load or halt or go is not None:
            self.run = None
        if starts:
            self.run = (self.key, self.seen[0], self.stream, go)
            self.words = 1
            self.drawn = []
        fresh = self.ready and self.enable and self.nonce > self.nonce_used and not starts and not load
        if starts:
            self.nonce_used = self.seen[0]
        self.seen = (self.nonce,)
        self.fresh = bool(fresh)
        if self.ready_in > 0:
            self.ready_in -= 1
        if load:
            self.key = self.key_window
            self.ready_in = Keystream.expansion_latency - 1
            self.nonce_used = -1


def words_of(commands):
    """Yield (inputs, expected outputs) of each word; inputs change only where they are given."""
    model = Model()
    for command in commands:
        match command:
            case Key(key):
                model_words = key_words(key)
                for address, value in enumerate(model_words):
                    yield {"key": (address, value)}, model.outputs()
                    model.step()
                model.key_window = key
            case Load():
                yield {"load": 1}, model.outputs()
                model.step(load=1)
            case Settings(nonce, stream, enable):
                model.nonce, model.stream, model.enable = nonce, stream, enable
                yield {"nonce": nonce, "stream": stream, "enable": enable}, model.outputs()
                model.step()
            case Go(start_slot, nonce):
                written = {} if nonce is None else {"nonce": nonce}
                model.nonce = written.get("nonce", model.nonce)
                yield {"go": 1, "start_slot": start_slot} | written, model.outputs()
                model.step(go=start_slot)
            case Halt():
                yield {"halt": 1}, model.outputs()
                model.step(halt=1)
            case GoAndHalt(start_slot):
                yield {"go": 1, "halt": 1, "start_slot": start_slot}, model.outputs()
                model.step(go=start_slot, halt=1)
            case Words(words):
                for _ in range(words):
                    yield {}, model.outputs()
                    model.step()
