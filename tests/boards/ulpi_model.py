"""A ULPI transceiver with a USB host behind it, for cocotb: what they do on the bus of the link, clock by clock.

Only what a device sees at high speed: the handshake after a reset of the bus, packets with their checksums, answers
within the time that USB 2.0 allows (816 bit times are 102 bytes; a device may take 192).
"""

import random

from cocotb.triggers import FallingEdge, ReadOnly

FUNCTION_CONTROL, OTG_CONTROL = 0x04, 0x0A
OUT, IN, SOF, SETUP, PING = 0x1, 0x9, 0x5, 0xD, 0x4
DATA0, DATA1, ACK, NAK, STALL = 0x3, 0xB, 0x2, 0xA, 0xE
TIMEOUT_CLOCKS = 102
SE0, J, K = 0, 1, 2
VBUS_VALID = 0b1100
_RECEIVING = 0x10


def crc(bits, width, polynomial):
    """Checksum of USB 2.0 section 8.3.5 over bits, first bit first, as a number whose bit 0 goes out first."""
    register = (1 << width) - 1
    for bit in bits:
        top = register >> width - 1 & 1
        register = register << 1 & (1 << width) - 1
        if bit ^ top:
            register ^= polynomial
    return int(f"{register ^ (1 << width) - 1:0{width}b}"[::-1], 2)


def bits_of(content):
    return [byte >> i & 1 for byte in content for i in range(8)]


def pid_byte(pid):
    return pid | (~pid & 15) << 4


def token(pid, value):
    """Packet of a token with its 11 bits, low bit first."""
    full = value | crc([value >> i & 1 for i in range(11)], 5, 0x05) << 11
    return bytes([pid_byte(pid), full & 255, full >> 8])


def data_packet(pid, content):
    return bytes([pid_byte(pid), *content]) + crc(bits_of(content), 16, 0x8005).to_bytes(2, "little")


class Transceiver:
    """The transceiver's side of the bus: `edge` is one clock; between edges the model holds what it drives."""

    def __init__(self, dut, pauses=0.0, seed=1):
        self.dut = dut
        self.registers = {FUNCTION_CONTROL: 0x41, OTG_CONTROL: 0x06}
        self.pauses = pauses
        """Share of the clocks in which the transceiver does not take or give a byte."""
        self._random = random.Random(seed)
        self.line = J
        self.clocks = 0
        self._drive(0, 0, 0)

    def _drive(self, direction, next_, content):
        self.dut.ulpi__dir.value = direction
        self.dut.ulpi__nxt.value = next_
        self.dut.ulpi__data_i.value = content

    async def edge(self, direction=0, next_=0, content=0):
        """Drive the bus for one clock; returns the device's (data, stop) in it, data None where it does not drive.

        Lines change after the falling edge, so that they are stable at the rising one.
        """
        self._drive(direction, next_, content)
        await ReadOnly()
        dut = self.dut
        seen = (int(dut.ulpi__data_o.value) if int(dut.ulpi__data_oe.value) else None, int(dut.ulpi__stp.value))
        await FallingEdge(dut.usb_clk)
        self.clocks += 1
        return seen

    def _pause(self):
        return self._random.random() < self.pauses

    async def tell(self, line=None):
        """Send a receive command: state of the line, power is there."""
        self.line = self.line if line is None else line
        await self.edge(1)
        await self.edge(1, 0, VBUS_VALID | self.line)
        await self.edge()

    async def receive(self, packet):
        """A packet comes from the host."""
        await self.edge(1, 1)
        await self.edge(1, 0, _RECEIVING | VBUS_VALID | self.line)
        for byte in packet:
            while self._pause():
                await self.edge(1, 0, _RECEIVING | VBUS_VALID | self.line)
            await self.edge(1, 1, byte)
        await self.edge(1, 0, VBUS_VALID | self.line)
        await self.edge()

    async def watch(self, clocks):
        """Wait for what the device does: a packet that it sends, as bytes; register writes are carried out on the way.

        Returns None where nothing comes within `clocks`.
        """
        for _ in range(clocks):
            command, _ = await self.edge()
            if command is None or command >> 6 == 0:
                continue
            if command >> 6 == 2:
                await self._write(command & 63)
                continue
            assert command >> 6 == 1, f"command {command:#x}"
            return await self._transmit()
        return None

    async def _write(self, address):
        await self.edge(0, 1)
        value, _ = await self.edge(0, 1)
        _, stop = await self.edge()
        assert stop
        self.registers[address] = value

    async def _transmit(self, limit=1100):
        """Take over a packet whose command is on the bus."""
        packet = []
        for _ in range(20 * limit):
            next_ = not self._pause()
            content, stop = await self.edge(0, int(next_))
            if stop:
                return bytes(packet)
            if next_:
                packet.append(pid_byte(content & 15) if not packet and self._operation != 2 else content)
            if self._operation == 2 and len(packet) >= limit:
                return bytes(packet)
        raise AssertionError("a packet without an end")

    @property
    def _operation(self):
        return self.registers[FUNCTION_CONTROL] >> 3 & 3

    @property
    def high_speed(self):
        """The device has set the transceiver to high speed and its termination."""
        return self.registers[FUNCTION_CONTROL] & 0x1F == 0


class Host:
    """A USB host, which has one device."""

    def __init__(self, transceiver):
        self.bus = transceiver
        self.address = 0
        self.toggles = {}

    async def reset(self):
        """Reset of the bus with the handshake for high speed (USB 2.0 section 7.1.7.5). False if the device stays
        slow."""
        self.address, self.toggles = 0, {}
        bus = self.bus
        await bus.tell(SE0)
        for _ in range(400_000):
            if await self._chirped():
                break
        else:
            return False
        for _ in range(4):
            for line in (K, J):
                await bus.tell(line)
                await bus.watch(300)
        await bus.tell(SE0)
        await bus.watch(300)
        return bus.high_speed

    async def _chirped(self):
        """One clock, or the whole chirp of the device."""
        command, _ = await self.bus.edge()
        if command is None or command >> 6 == 0:
            return False
        if command >> 6 == 2:
            await self.bus._write(command & 63)
            return False
        assert command == 0x40
        await self.bus.tell(K)
        for _ in range(400_000):
            _, stop = await self.bus.edge(0, 1)
            if stop:
                return True
        return False

    async def _token(self, pid, endpoint):
        await self.bus.receive(token(pid, self.address | endpoint << 7))
        # Between packets of the host.
        await self.bus.watch(12)

    async def start_of_frame(self, number):
        await self.bus.receive(token(SOF, number))
        await self.bus.watch(12)

    async def _answer(self):
        answer = await self.bus.watch(TIMEOUT_CLOCKS)
        assert answer is not None, "the device does not answer"
        assert answer[0] >> 4 ^ 15 == answer[0] & 15, f"packet {answer.hex()} has no packet identifier"
        return answer[0] & 15, answer[1:]

    async def read(self, endpoint, *, lose_ack=False):
        """One IN transaction: content, None for NAK, "stall"; a repeated packet gives b"" and says so.

        With `lose_ack` the host's acknowledgement does not arrive.
        """
        await self.bus.receive(token(IN, self.address | endpoint << 7))
        pid, rest = await self._answer()
        if pid == NAK:
            return None
        if pid == STALL:
            return "stall"
        content, check = rest[:-2], rest[-2:]
        assert pid in (DATA0, DATA1)
        assert data_packet(pid, content)[-2:] == check, f"checksum of {rest.hex()}"
        await self.bus.watch(4)
        if lose_ack:
            await self.bus.watch(TIMEOUT_CLOCKS)
            return None
        await self.bus.receive(bytes([pid_byte(ACK)]))
        await self.bus.watch(8)
        # A packet that the host has had already.
        if pid != (DATA1 if self.toggles.get(("in", endpoint)) else DATA0):
            return "repeated"
        self.toggles["in", endpoint] = not self.toggles.get(("in", endpoint))
        return content

    async def write(self, endpoint, content, *, damage=False, lose_ack=False, pid=None):
        """One OUT transaction; True when it was accepted. A damaged packet must get no answer."""
        await self._token(OUT if pid is None else SETUP, endpoint)
        if pid is None:
            pid = DATA1 if self.toggles.get(("out", endpoint)) else DATA0
        packet = data_packet(pid, content)
        await self.bus.receive(packet[:-1] + bytes([packet[-1] ^ 0x10]) if damage else packet)
        if damage:
            assert await self.bus.watch(TIMEOUT_CLOCKS) is None
            return False
        answer, _ = await self._answer()
        assert answer in (ACK, NAK, STALL)
        await self.bus.watch(8)
        if answer == ACK and not lose_ack:
            self.toggles["out", endpoint] = not self.toggles.get(("out", endpoint))
        return answer == ACK and not lose_ack

    async def ping(self, endpoint):
        await self.bus.receive(token(PING, self.address | endpoint << 7))
        answer, _ = await self._answer()
        await self.bus.watch(8)
        return answer == ACK

    async def control(self, request_type, request, value=0, index=0, length=0, content=b""):
        """A control transfer; what came for IN, b"" for OUT, "stall" where the device refuses."""
        fields = (value, index, len(content) or length)
        setup = bytes([request_type, request]) + b"".join(field.to_bytes(2, "little") for field in fields)
        assert await self.write(0, setup, pid=DATA0)
        self.toggles["in", 0] = self.toggles["out", 0] = True
        received = b""
        if request_type & 0x80:
            while len(received) < length:
                part = await self._patient(0)
                if part == "stall":
                    return part
                received += part
                if len(part) < 64:
                    break
            self.toggles["out", 0] = True
            assert await self.write(0, b"")
            return received
        if content:
            assert await self.write(0, content)
        self.toggles["in", 0] = True
        return await self._patient(0)

    async def _patient(self, endpoint):
        for _ in range(50):
            answer = await self.read(endpoint)
            if answer is not None:
                return answer
        raise AssertionError(f"endpoint {endpoint} has no answer")
