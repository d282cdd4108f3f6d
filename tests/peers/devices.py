"""The devices: pymodbus servers for Modbus TCP and, on a pseudo-terminal, Modbus RTU."""

import asyncio
import logging
import os
import select
import threading
import tty
from itertools import groupby

from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

import image

# it dumps its last frames when a caller goes while it answers, which here is no fault
logging.getLogger("pymodbus_internal").setLevel(logging.CRITICAL)

UNITS = {"press": 1, "oven": 2, "drive": 1}
WRITE = {"hr": 16, "coil": 15}  # the function by which pymodbus finds the table; nothing writes to the other two


class Floor:
    """All devices, in a thread of their own."""

    def __init__(self, tcp_port):
        self.tcp_port = tcp_port
        self.line = Line()
        self.tcp = self.rtu = None
        self.silent = set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def _do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def start_tcp(self):
        async def start():
            devices = [device("press"), device("oven")]
            server = ModbusTcpServer(devices, address=("127.0.0.1", self.tcp_port), trace_packet=self._trace_tcp)
            await server.serve_forever(background=True)
            return server

        self.tcp = self._do(start())

    def start_rtu(self):
        async def start():
            server = ModbusSerialServer(device("drive"), port=self.line.device_end, baudrate=115200)
            await server.serve_forever(background=True)
            return server

        self.rtu = self._do(start())

    def stop_tcp(self):
        if self.tcp:
            self._do(self.tcp.shutdown())
        self.tcp = None

    def stop_rtu(self):
        if self.rtu:
            self._do(self.rtu.shutdown())
        self.rtu = None

    def set(self, name, table, address, text):
        """Changes registers between two requests, never during one."""
        server = self.rtu if name == "drive" else self.tcp
        self._do(server.async_setValues(UNITS[name], WRITE[table], address, image.words(text)))

    def set_tag(self, name, tag, text):
        known = image.tag(name, tag)
        self.set(name, known.table, known.address, text)

    def restore(self):
        """Back to the known image."""
        for tag in image.TAGS:
            if tag.table in WRITE and tag.words:
                self.set(tag.device, tag.table, tag.address, tag.words)

    def _trace_tcp(self, sending, packet):
        # the seventh byte of a Modbus TCP frame is the unit
        return b"" if sending and packet[6] in self.silent else packet

    def silence(self, name):
        self.silent.add(UNITS[name])

    def answer_again(self, name):
        self.silent.discard(UNITS[name])

    def close(self):
        self.stop_tcp()
        self.stop_rtu()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.line.close()


def device(name):
    served = image.tables(name)
    blocks = {table: list(runs(entries)) for table, entries in served.items()}
    bits = {
        table: [SimData(0, values=[bool(bit) for bit in served[table].values()], datatype=DataType.BITS)]
        for table in ("coil", "di")
    }
    registers = {
        table: [SimData(first, values=values, datatype=DataType.REGISTERS) for first, values in blocks[table]]
        for table in ("hr", "ir")
    }
    return SimDevice(UNITS[name], simdata=(bits["coil"], bits["di"], registers["hr"], registers["ir"]))


def runs(entries):
    """The stretches without a hole: first address and values."""
    for _, run in groupby(enumerate(sorted(entries)), lambda pair: pair[1] - pair[0]):
        addresses = [address for _, address in run]
        yield addresses[0], [entries[address] for address in addresses]


class Line:
    """Pseudo-terminals back to back: what goes in at one end comes out at all others, as on a pair of wires."""

    def __init__(self, devices=1):
        # the far halves stay open here: a terminal whose last user leaves fails for the pump
        self.ends = [os.openpty() for _ in range(1 + devices)]
        for end in self.ends:
            for half in end:
                tty.setraw(half)
        self.gateway_end, *self.device_ends = (os.ttyname(end[1]) for end in self.ends)
        self.device_end = self.device_ends[0]
        self.closing = os.pipe()
        self.pump = threading.Thread(target=self._pump, daemon=True)
        self.pump.start()

    def _pump(self):
        ends = [end[0] for end in self.ends]
        while True:
            ready, _, _ = select.select([*ends, self.closing[0]], [], [])
            if self.closing[0] in ready:
                return
            for source in ready:
                heard = os.read(source, 4096)
                for end in ends:
                    if end != source:
                        os.write(end, heard)

    def close(self):
        os.write(self.closing[1], b"x")
        self.pump.join(5)
        for descriptor in (*(half for end in self.ends for half in end), *self.closing):
            os.close(descriptor)
