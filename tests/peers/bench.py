"""Everything that stands around the gateway, and how it is taken down again."""

import os
import random
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

from broker import MQTT_5, Broker, Node, Recorder, is_listening
from devices import Floor
from gateway import GROUP, Gateway, config

USERNAME = "press-hall"
PASSWORD = "correct-horse-7391"


class Bench:
    def __init__(self, report, binary, readers, host=None, broker=Broker, protocol=MQTT_5):
        """`readers` makes the decoders, `broker` the broker, whose recorder speaks that version of MQTT."""
        self.report = report
        self.binary = binary
        self.host = host
        self.stack = ExitStack()
        try:
            self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-peers-")))
            open_port, self.locked_port, self.modbus_port = free_ports(3)
            self.broker = broker(self.folder, open_port, self.locked_port, USERNAME, PASSWORD)
            self.stack.callback(self.broker.stop)
            self.broker.start()
            self.recorder = Recorder(open_port, protocol)
            self.stack.callback(self.recorder.close)
            self.floor = Floor(self.modbus_port)
            self.stack.callback(self.floor.close)
            # a name of ours for the terminal, so that a test may take it away
            self.port = self.folder / "line"
            self.plug_in()
            self.floor.start_tcp()
            self.floor.start_rtu()
            self.decoders = []
            for decoder in readers():
                self.stack.callback(decoder.close)
                self.decoders.append(decoder)
        except BaseException:
            self.close()
            raise

    def plug_in(self):
        os.symlink(self.floor.line.gateway_end, self.port)

    def unplug(self):
        self.port.unlink()

    @contextmanager
    def gateway(self, name, broker_port=None, uplink="", log="info"):
        """A gateway that is not started yet, and the node that it will be."""
        folder = self.folder / name
        text = config(name, folder, broker_port or self.broker.port, self.modbus_port, self.port, uplink, log)
        gateway = Gateway(self.binary, folder, text)
        try:
            yield gateway, Node(self.recorder, GROUP, name)
        finally:
            gateway.kill()

    def close(self):
        self.stack.close()


def free_ports(count):
    """Below the range that the system gives to outgoing connections: nobody takes them while a server restarts."""
    found = []
    while len(found) < count:
        port = random.randrange(20000, 32000)
        if port not in found and not is_listening(port):
            found.append(port)
    return found
