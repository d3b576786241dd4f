"""Reference of consistent-overhead byte stuffing, for the proofs of the framer."""

from amaranth.hdl import Module, Mux, Signal

__all__ = ["Unstuffed"]


class Unstuffed:
    """Reference of the stuffing: what a byte of a frame, offered while `enable`, means.

    `remaining` and `owed` are registers of the harness; `emit` and `value` a byte of the packet.
    """

    def __init__(self, m: Module, enable, byte, name: str):
        self.remaining = Signal(8, name=f"{name}_remaining")
        self.owed = Signal(name=f"{name}_owed")
        self.emit = Signal(name=f"{name}_emit")
        self.value = Signal(8, name=f"{name}_value")
        self.ends = Signal(name=f"{name}_ends")
        is_code = self.remaining == 0
        m.d.comb += [
            self.ends.eq(enable & (byte == 0)),
            self.emit.eq(enable & (byte != 0) & (~is_code | self.owed)),
            self.value.eq(Mux(is_code, 0, byte)),
        ]
        with m.If(enable):
            m.d.sync += [
                self.remaining.eq(Mux(byte == 0, 0, Mux(is_code, byte - 1, self.remaining - 1))),
                self.owed.eq(Mux(byte == 0, 0, Mux(is_code, byte != 0xFF, self.owed))),
            ]
