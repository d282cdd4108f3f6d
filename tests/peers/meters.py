"""A meter and a slave that others have written, on one pair: PyPI dlt645 speaks DL/T 645-2007, pymodbus speaks RTU.

Each hears what is said to and by the other. The meter has no blocks, and answers every frame of its kind, also one for
another meter, so it is the only one. Values are given to it as numbers; what comes back at the broker is compared with
literals.
"""

import asyncio
import subprocess
import threading
import tomllib

from contextlib import contextmanager

from dlt645 import MeterServerService
from pymodbus.server import ModbusSerialServer

import image
from broker import Node
from decoders import is_same
from devices import Line, device
from gateway import GROUP, Gateway
from image import DOUBLE, INT64
from report import expect
from wire import BAD, GOOD, check_sequence, quality, raw_value

ADDRESS = "210220003011"
# identifier, format, and what the meter is given and must come back
VALUES = {
    "energy/import": ("00010000", "XXXXXX.XX", 1206.42),
    "energy/peak": ("00010200", "XXXXXX.XX", 799999.99),
    "energy/export": ("00020000", "XXXXXX.XX", 0.03),
    "voltage/l1": ("02010100", "XXX.X", 230.5),
    "voltage/l2": ("02010200", "XXX.X", 0.0),
    "voltage/l3": ("02010300", "XXX.X", 229.9),
    "current/l1": ("02020100", "-XXX.XXX", 5.123),
    "current/l2": ("02020200", "-XXX.XXX", -1.234),
    "power/active": ("02030000", "-XX.XXXX", -1.2345),
    "power/l1": ("02030100", "-XX.XXXX", 79.9999),
    "power_factor": ("02060000", "-X.XXX", 0.985),
    "frequency": ("02800002", "XX.XX", 49.98),
}
CONSTANT = ("constant", "04000409", "XXXXXX", 6400)
ABSENT = ("absent", "02800077", "XX.XX")
DEVICE, SLAVE = "incomer", "drive"


class Pair:
    """The meter and the slave on a pair of wires."""

    def __init__(self):
        self.line = Line(devices=2)
        self.service = MeterServerService.new_rtu_server(self.line.device_ends[0], 8, 1, 2400, "N", 5.0)
        self.service.set_address(bytes.fromhex(ADDRESS)[::-1])  # it takes it as on the wire
        for identifier, _, value in VALUES.values():
            self.set(identifier, value)
        name, identifier, _, value = CONSTANT
        assert self.service.set_04(int(identifier, 16), f"{value:06}"), f"the meter does not take {name}"
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.slave = self._do(self._serve())

    async def _serve(self):
        slave = ModbusSerialServer(device(SLAVE), port=self.line.device_ends[1], baudrate=115200)
        await slave.serve_forever(background=True)
        return slave

    def _do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def set(self, identifier, value):
        number = int(identifier, 16)
        put = self.service.set_00 if number < 0x0100_0000 else self.service.set_02
        assert put(number, value), f"the meter does not take {value} for {identifier}"

    def start_meter(self):
        assert self.service.server.start(), "the meter does not start"

    def stop_meter(self):
        assert self.service.server.stop(), "the meter does not stop"

    def close(self):
        self.stop_meter()
        self._do(self.slave.shutdown())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.line.close()


def config(name, folder, broker_port, serial_port):
    lines = [f'  {{ name = "{tag}", at = "{at}", format = "{digits}" }},' for tag, (at, digits, _) in VALUES.items()]
    lines += [f'  {{ name = "{tag}", at = "{at}", format = "{digits}" }},' for tag, at, digits in (CONSTANT[:3], ABSENT)]
    tags = "\n".join(lines)
    of_slave = "\n".join(f'  {{ name = "{tag.name}", {tag.keys} }},' for tag in image.of_device(SLAVE))
    return f"""[gateway]
name = "{name}"
enterprise = "{GROUP}"
state_dir = "{folder}/state"
[uplink.broker]
broker = "mqtt://127.0.0.1:{broker_port}"
birth_jitter = "0s"
[status]
listen = "off"
[link.line]
port = "{serial_port}"
serial = "9600 8E1"
[device.{DEVICE}]
protocol = "dlt645"
link = "line"
address = "{ADDRESS}"
serial = "2400 8E1"
every = "500ms"
timeout = "500ms"
retries = 1
tags = [
{tags}
]
[device.{SLAVE}]
link = "line"
unit = 1
order = "CDAB"
every = "500ms"
timeout = "500ms"
tags = [
{of_slave}
]
"""


@contextmanager
def standing(bench, name):
    """The pair, a gateway that is not started yet, and the node that it will be."""
    pair = Pair()
    folder = bench.folder / name
    gateway = Gateway(bench.binary, folder, config(name, folder, bench.broker.port, pair.line.gateway_end))
    try:
        pair.start_meter()
        yield pair, gateway, Node(bench.recorder, GROUP, name)
    finally:
        gateway.kill()
        pair.close()


def run(bench):
    check = bench.report.check
    with standing(bench, "cell-8") as (pair, gateway, node):
        with check("dlt645: scan finds the meter and the slave, says that the meter answers whatever it is asked, and reads only"):
            check_scan(bench, pair)
        gateway.start()
        with check("dlt645: the birth of a meter that others have written has each of its values"):
            birth = node.wait("DBIRTH", DEVICE, timeout=20)
            for name, (_, _, value) in VALUES.items():
                check_value(birth, name, DOUBLE, "double_value", value)
            check_value(birth, CONSTANT[0], INT64, "long_value", CONSTANT[3])
        with check("dlt645: what the meter does not have is bad for that reason"):
            metric = birth.metric(ABSENT[0])
            expect((quality(metric), metric.is_null), ((BAD, "bad:config"), True), ABSENT[0])
        for decoder in bench.decoders:
            with check(f"dlt645: both births read by {decoder.name}"):
                check_births(decoder, birth, node.wait("DBIRTH", SLAVE, timeout=20))
        with check("dlt645: a change is told, a negative one as well"):
            since = node.mark()
            pair.set(VALUES["current/l1"][0], -799.999)
            node.wait_data(DEVICE, "current/l1", lambda metric: metric.double_value == -799.999, since)
        with check("dlt645: a meter that is silent dies, and is born again with what it has then; the slave beside it lives on"):
            since = node.mark()
            pair.stop_meter()
            node.wait("DDEATH", DEVICE, since, timeout=30)
            pair.set(VALUES["energy/import"][0], 1206.43)
            pair.start_meter()
            birth = node.wait("DBIRTH", DEVICE, since, timeout=30)
            check_value(birth, "energy/import", DOUBLE, "double_value", 1206.43)
            expect([message.device for message in node.messages() if message.kind == "DDEATH"], [DEVICE], "deaths")
        with check("dlt645: envelope, and the gateway stops when it is asked to"):
            expect(gateway.terminate(), 0, "exit code")
            check_sequence(node.messages())


def check_scan(bench, pair):
    """Of the wires: speeds make no difference on them."""
    line = ("--serial", "2400 8E1", "--units", "1")
    command = (bench.binary, "scan", pair.line.gateway_end, "--config", "configs/demo.toml", *line)
    scan = subprocess.run(command, capture_output=True, text=True, timeout=60)
    expect(scan.returncode, 0, f"exit code ({scan.stderr})")
    found = tomllib.loads(scan.stdout)
    devices = {device.get("address") or device["unit"]: device.get("type") for device in found["device"].values()}
    expect(devices, {ADDRESS: "dlt645-2007-3ph", 1: None}, "who was found")
    assert "answers whatever address" in scan.stderr, scan.stderr
    expect(found["link"]["line1"], {"port": pair.line.gateway_end, "serial": "2400 8E1"}, "the link")


def check_births(decoder, of_meter, of_slave):
    got = {metric.name: metric.value for metric in decoder.decode(of_meter)}
    for name, (_, _, value) in VALUES.items():
        expect(got[name], value, name)
    got = {metric.name: metric.value for metric in decoder.decode(of_slave)}
    for tag in image.of_device(SLAVE):
        assert is_same(tag.wide, got[tag.name], tag.value), f"{tag.name}: got {got[tag.name]!r}, wanted {tag.value!r}"


def check_value(birth, name, datatype, field, value):
    metric = birth.metric(name)
    expect((metric.datatype, *raw_value(metric)), (datatype, field, value), name)
    expect(quality(metric), (GOOD, "good"), f"quality of {name}")
