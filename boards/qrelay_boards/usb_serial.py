"""A USB serial port (CDC-ACM) at high speed behind a ULPI transceiver, from the parts of `luna-usb`."""

from types import SimpleNamespace

from amaranth.hdl import Cat, Const, Module, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from luna.gateware.stream.generator import StreamSerializer
from luna.gateware.usb.request.control import ControlRequestHandler
from luna.gateware.usb.stream import USBInStreamInterface
from luna.gateware.usb.usb2.device import USBDevice
from luna.gateware.usb.usb2.endpoints.stream import USBStreamInEndpoint, USBStreamOutEndpoint
from luna.gateware.usb.usb2.request import StallOnlyRequestHandler
from usb_protocol.emitters import DeviceDescriptorCollection
from usb_protocol.emitters.descriptors import cdc
from usb_protocol.types import USBRequestType

from qrelay.protocol.usb import PACKET_BYTES, PRODUCT

from .ulpi_pins import USB_HZ, UlpiPins
from .ulpi_translator import RegisteredTranslator

__all__ = ["HostByte", "UlpiSignature", "UsbSerial"]

HostByte = data.StructLayout({"byte": 8, "last": 1})
"""A byte to the host; after `last` the packet is sent even if it is not full."""

UlpiSignature = wiring.Signature(
    {"data_i": In(8), "data_o": Out(8), "data_oe": Out(1), "dir": In(1), "nxt": In(1), "stp": Out(1)}
)
"""The ULPI bus, seen from the FPGA."""

_DATA_ENDPOINT = 1
_STATUS_ENDPOINT = 2
_STATUS_BYTES = 8


class _LineRequests(ControlRequestHandler):
    """The requests by which a host sets up a serial port. All are accepted; the link has no line to set up.

    A host that is refused the control lines reports an error when the port is opened.
    """

    SET_LINE_CODING = 0x20
    GET_LINE_CODING = 0x21
    SET_CONTROL_LINE_STATE = 0x22

    LINE_CODING = (*(115200).to_bytes(4, "little"), 0, 0, 8)
    """What is told of the line: 115200 baud, 1 stop bit, no parity, 8 bits."""

    def elaborate(self, platform):
        m = Module()
        interface = self.interface
        setup = interface.setup
        length = len(self.LINE_CODING)
        m.submodules.coding = coding = StreamSerializer(
            data_length=length, domain="usb", stream_type=USBInStreamInterface, max_length_width=3
        )
        with m.If(setup.type == USBRequestType.CLASS):
            with m.If((setup.request == self.SET_LINE_CODING) | (setup.request == self.SET_CONTROL_LINE_STATE)):
                m.d.comb += interface.claim.eq(1)
                with m.If(interface.rx_ready_for_response):
                    m.d.comb += interface.handshakes_out.ack.eq(1)
                with m.If(interface.status_requested):
                    m.d.comb += self.send_zlp()
            with m.Elif(setup.request == self.GET_LINE_CODING):
                m.d.comb += [
                    interface.claim.eq(1),
                    coding.stream.attach(interface.tx),
                    Cat(coding.data).eq(Const(int.from_bytes(self.LINE_CODING, "little"), 8 * length)),
                    coding.max_length.eq(length),
                    coding.start.eq(interface.data_requested),
                    interface.handshakes_out.ack.eq(interface.status_requested),
                ]
        return m


class UsbSerial(wiring.Component):
    """USB device with one CDC-ACM serial port: a host sees /dev/ttyACM<n> or COM<n>. Domain ``usb``.

    High speed only: a port or hub that is limited to full speed cannot carry packets of 512 bytes.

    While no host has configured the device, and for a clock when one does, both endpoints are in reset: their packets
    are gone and the data toggles start over, as the host's do; `to_host` waits.

    Latency: packets. Throughput: 13 packets of 512 bytes per microframe at most, if the host asks for them. Reset: not
    connected. Overflow: none; a packet for which there is no room is refused until there is (NAK, PING).

    Parameters
    ----------
    board : str
        Name of the board, for the product's name.
    ulpi : UlpiPins
        USB numbers and serial number.

    Ports
    -----
    ulpi : Out(UlpiSignature)
    from_host : Out(stream.Signature(8))
    to_host : In(stream.Signature(HostByte))
    """

    ulpi: Out(UlpiSignature)
    from_host: Out(stream.Signature(8))
    to_host: In(stream.Signature(HostByte))

    def __init__(self, board: str, ulpi: UlpiPins):
        self._board = board
        self._facts = ulpi
        super().__init__()

    def descriptors(self) -> DeviceDescriptorCollection:
        """Descriptors of the device (USB 2.0 chapter 9, CDC 1.2, PSTN 1.2)."""
        collection = DeviceDescriptorCollection()
        with collection.DeviceDescriptor() as device:
            device.bcdUSB = 2.0
            # Interfaces are grouped by an association descriptor.
            device.bDeviceClass, device.bDeviceSubclass, device.bDeviceProtocol = 0xEF, 0x02, 0x01
            device.idVendor, device.idProduct = self._facts.vendor_id, self._facts.product_id
            device.iManufacturer = PRODUCT
            device.iProduct = f"{PRODUCT} {self._board}"
            device.iSerialNumber = self._facts.serial_number
            device.bNumConfigurations = 1
        with collection.ConfigurationDescriptor() as configuration:
            with configuration.InterfaceAssociationDescriptor() as both:
                both.bFirstInterface, both.bInterfaceCount = 0, 2
                both.bFunctionClass, both.bFunctionSubClass, both.bFunctionProtocol = 0x02, 0x02, 0x00
            with configuration.InterfaceDescriptor() as control:
                control.bInterfaceNumber = 0
                control.bInterfaceClass, control.bInterfaceSubclass, control.bInterfaceProtocol = 0x02, 0x02, 0x00
                calls = cdc.CallManagementFunctionalDescriptorEmitter()
                calls.bDataInterface = 1
                line = cdc.ACMFunctionalDescriptorEmitter()
                # Line coding and control lines.
                line.bmCapabilities = 0b0010
                union = cdc.UnionFunctionalDescriptorEmitter()
                union.bControlInterface, union.bSubordinateInterface0 = 0, 1
                for part in (cdc.HeaderDescriptorEmitter(), calls, line, union):
                    control.add_subordinate_descriptor(part)
                with control.EndpointDescriptor() as status:
                    status.bEndpointAddress = 0x80 | _STATUS_ENDPOINT
                    status.bmAttributes = 0x03
                    status.wMaxPacketSize = _STATUS_BYTES
                    status.bInterval = 11
            with configuration.InterfaceDescriptor() as bytes_:
                bytes_.bInterfaceNumber = 1
                bytes_.bInterfaceClass, bytes_.bInterfaceSubclass, bytes_.bInterfaceProtocol = 0x0A, 0x00, 0x00
                for address in (0x80 | _DATA_ENDPOINT, _DATA_ENDPOINT):
                    with bytes_.EndpointDescriptor() as bulk:
                        bulk.bEndpointAddress = address
                        bulk.bmAttributes = 0x02
                        bulk.wMaxPacketSize = PACKET_BYTES
                        bulk.bInterval = 0
        return collection

    def elaborate(self, platform):
        m = Module()
        bus = SimpleNamespace(
            data=SimpleNamespace(i=self.ulpi.data_i, o=self.ulpi.data_o, oe=self.ulpi.data_oe),
            dir=SimpleNamespace(i=self.ulpi.dir),
            nxt=SimpleNamespace(i=self.ulpi.nxt),
            stp=SimpleNamespace(o=self.ulpi.stp),
        )
        translator = RegisteredTranslator(ulpi=bus, handle_clocking=False)
        m.submodules.device = device = USBDevice(bus=translator)
        # A device that is not given its ULPI bus takes itself for one of full speed.
        device.translator, device.bus_busy = translator, translator.busy
        device.always_fs, device.data_clock = False, USB_HZ
        control = device.add_standard_control_endpoint(self.descriptors())
        control.add_request_handler(_LineRequests())
        control.add_request_handler(
            StallOnlyRequestHandler(
                lambda setup: (setup.type == USBRequestType.VENDOR) | (setup.type == USBRequestType.RESERVED)
            )
        )
        # Never has anything to say.
        device.add_endpoint(USBStreamInEndpoint(endpoint_number=_STATUS_ENDPOINT, max_packet_size=_STATUS_BYTES))

        source = USBStreamInEndpoint(endpoint_number=_DATA_ENDPOINT, max_packet_size=PACKET_BYTES)
        sink = USBStreamOutEndpoint(endpoint_number=_DATA_ENDPOINT, max_packet_size=PACKET_BYTES)
        idle = Signal(init=1)
        m.d.usb += idle.eq((control.interface.active_config == 0) | control.interface.config_changed)
        for endpoint in (source, sink):
            device.add_endpoint(ResetInserter({"usb": idle})(endpoint))
        m.d.comb += [
            device.connect.eq(1),
            source.stream.payload.eq(self.to_host.payload.byte),
            source.stream.last.eq(self.to_host.payload.last),
            source.stream.valid.eq(self.to_host.valid & ~idle),
            self.to_host.ready.eq(source.stream.ready & ~idle),
            self.from_host.payload.eq(sink.stream.payload),
            self.from_host.valid.eq(sink.stream.valid & ~idle),
            sink.stream.ready.eq(self.from_host.ready & ~idle),
        ]
        return m
