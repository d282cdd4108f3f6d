"""The gateway at NATS with JetStream and MQTT, beside Mosquitto: the same life at both, and what differs.

    python tests/peers/nats.py --tidegate target/debug/tidegate --nats tests/.peers/nats/usr/sbin/nats-server

What must hold at both brokers is checked; what a broker does in its own way is printed for both. Exit code 0 if every
check has passed.
"""

import argparse
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt

import births
import image
from bench import Bench, free_ports
from broker import MQTT_3, Broker, displace, is_listening
from commands import rebirth, write
from gateway import GROUP
from report import Report, expect, wait_for
from wire import check_sequence

FORBIDDEN = "spBv1.0/peers/DDATA/forbidden/d"
OUTAGE_S = 3
OUTCOME = "Device Control/Outcome"
COMMANDS = """
[commands]
enabled = true
[device.press.override]
"live/i32" = { write = { min = 0, max = 100 } }
"""


class Nats:
    """One server with JetStream; who is nobody may do all but publish on one topic."""

    program = None

    def __init__(self, folder, open_port, _locked_port, _username, _password):
        self.port = open_port
        self.process = None
        self.path = Path(folder) / "nats.conf"
        self.log_path = Path(folder) / "nats.log"
        (client_port,) = free_ports(1)
        # a dot in a topic of MQTT is two slashes in a subject of NATS
        self.path.write_text(
            f"""server_name: one
listen: "127.0.0.1:{client_port}"
log_file: "{self.log_path}"
jetstream {{ store_dir: "{folder}/jetstream" }}
mqtt {{ listen: "127.0.0.1:{open_port}" }}
authorization {{ users: [
  {{ user: nobody, password: nobody, permissions: {{ publish: {{ deny: ["spBv1//0.peers.DDATA.forbidden.d"] }} }} }}
] }}
no_auth_user: nobody
"""
        )

    def start(self):
        self.process = subprocess.Popen([self.program, "-c", self.path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: is_listening(self.port), "NATS takes connections")

    def stop(self):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""


class Mosquitto(Broker):
    """With the same topic forbidden to everybody."""

    def __init__(self, folder, *rest):
        super().__init__(folder, *rest)
        access = self.folder / "access"
        access.write_text("topic readwrite #\ntopic deny spBv1.0/peers/DDATA/forbidden/d\n")
        access.chmod(0o644)
        conf = self.folder / "mosquitto.conf"
        text = conf.read_text()
        conf.write_text(text.replace("allow_anonymous true\n", f"allow_anonymous true\nacl_file {access}\n", 1))


class Passage:
    """A way to the broker that can be closed: what is on it is cut, and nobody comes through until it is opened."""

    def __init__(self, port):
        self.to = port
        self.is_open = True
        self.pairs = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.to)) if self.is_open else None
            except OSError:
                far = None  # the broker is down
            if far is None:
                near.close()
                continue
            self.pairs += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pass(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close_way(self):
        self.is_open = False
        for end in self.pairs:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.pairs.clear()

    def open_way(self):
        self.is_open = True

    def close(self):
        self.close_way()
        self.listener.close()


class Life:
    """One gateway at one broker, and what was seen."""

    def __init__(self, bench, name, gateway, node, passage):
        self.bench, self.name, self.gateway, self.node, self.passage = bench, name, gateway, node, passage
        self.seen = {}

    def check(self, what):
        return self.bench.report.check(f"{self.name}: {what}")

    def run(self):
        self.gateway.start()
        with self.check("births, every value with google protobuf"):
            started = time.monotonic()
            self.node.wait_births(image.DEVICES, timeout=20)
            self.seen["births after CONNECT within 2 s"] = time.monotonic() - started < 2
            for device in image.DEVICES:
                control = [OUTCOME] if device == "press" else []
                births.check_shape(self.node.wait("DBIRTH", device), device, control=control)
        with self.check("data"):
            self.tell(9.0)
        self.device()
        self.rebirth()
        self.commands()
        self.outage()
        self.restart()
        self.deaths()
        with self.check("envelope over the whole life"):
            check_sequence(self.node.messages())
        self.permission()
        self.version_5()

    def tell(self, value):
        since = self.node.mark()
        self.bench.floor.set_tag("press", "live/f32", words(value))
        self.node.wait_data("press", "live/f32", lambda metric: metric.float_value == value, since)

    def device(self):
        with self.check("a device dies, and is born again"):
            since = self.node.mark()
            self.bench.floor.silence("oven")
            self.node.wait("DDEATH", "oven", since, timeout=20)
            self.bench.floor.answer_again("oven")
            self.node.wait("DBIRTH", "oven", since, timeout=20)

    def rebirth(self):
        with self.check("a rebirth by NCMD, at QoS 0 and 1"):
            for qos in (0, 1):
                since = self.node.mark()
                self.node.command(rebirth(), qos)
                self.node.wait_births(image.DEVICES, since, timeout=15)
                time.sleep(1.1)  # births asked for within a second are born together

    def commands(self):
        with self.check("a command to a device is done once, and one out of range is refused"):
            for value, result in ((42, "done"), (1000, "refused")):
                since = self.node.mark()
                self.node.command(write("live/i32", value), device="press")
                told = lambda metric: f'"result":"{result}"' in metric.string_value
                self.node.wait_data("press", OUTCOME, told, since)
            is_written = lambda metric: metric.int_value == 42
            self.node.wait_data("press", "live/i32", is_written, 0)

    def outage(self):
        with self.check(f"an outage of {OUTAGE_S} s: births, then every change as history"):
            since = self.node.mark()
            self.passage.close_way()
            values = [20.0 + step for step in range(OUTAGE_S * 2)]
            for value in values:
                self.bench.floor.set_tag("press", "live/f32", words(value))
                time.sleep(0.5)
            self.passage.open_way()
            self.node.wait_births(image.DEVICES, since, timeout=20)
            expected = set(values)

            def told():
                of_tag = self.node.data("press", "live/f32", since)
                return {metric.float_value for _, metric in of_tag if metric.is_historical} >= expected - {values[-1]}

            wait_for(told, "every change in history", 20)

    def restart(self):
        with self.check("the broker restarts: a later bdSeq, and data"):
            bd_seq = self.last_bd_seq()
            self.bench.broker.stop()
            wait_for(lambda: not self.bench.recorder.client.is_connected(), "the recorder has noticed")
            self.bench.broker.start()
            wait_for(self.bench.recorder.client.is_connected, "the recorder is back")

            def born():
                since = self.node.mark()
                self.node.command(rebirth())  # the recorder may have been later than the births
                time.sleep(1.2)
                return next((birth for birth in self.node.messages(since) if birth.kind == "NBIRTH"), None)

            birth = wait_for(born, "births after the restart", 30)
            assert 1 <= (birth.bd_seq() - bd_seq) % 256 <= 30, f"bdSeq {birth.bd_seq()} after {bd_seq}"
            self.tell(31.0)

    def deaths(self):
        with self.check("kill -9: the will, with the bdSeq of the birth"):
            bd_seq, since = self.last_bd_seq(), self.node.mark()
            self.gateway.process.send_signal(signal.SIGKILL)
            self.gateway.process.wait(5)
            killed = time.monotonic()
            death = self.node.wait("NDEATH", since=since, timeout=20)
            expect((death.bd_seq(), death.qos, death.retain), (bd_seq, 1, False), "NDEATH")
            self.seen["the will comes within 1 s of the end of the socket"] = time.monotonic() - killed < 1
        with self.check("SIGTERM: NDEATH, and none by the will"):
            since = self.node.mark()
            self.gateway.start()
            self.node.wait_births(image.DEVICES, since, timeout=20)
            expect(self.gateway.terminate(), 0, "exit code")
            self.node.wait("NDEATH", since=since)
            time.sleep(1)
            expect(self.node.count("NDEATH", since), 1, "NDEATHs")
        with self.check("another client of the same id ends the connection: births with the next bdSeq"):
            since = self.node.mark()
            self.gateway.start()
            self.node.wait_births(image.DEVICES, since, timeout=20)
            since = self.node.mark()
            displace(self.bench.broker.port, f"{GROUP}/{self.node.name}")
            self.node.wait_births(image.DEVICES, since, timeout=20)
            self.seen["the will of a client that another one of its id displaces is published"] = self.node.count("NDEATH", since) > 0
            self.gateway.kill()

    def last_bd_seq(self):
        return [message for message in self.node.messages() if message.kind == "NBIRTH"][-1].bd_seq()

    def permission(self):
        """A message on a topic that this client may not publish on, at QoS 1."""
        acknowledged = threading.Event()
        client = mqtt.Client(client_id="forbidden", protocol=MQTT_3)
        client.on_publish = lambda *_: acknowledged.set()
        client.connect("127.0.0.1", self.bench.broker.port)
        client.loop_start()
        wait_for(client.is_connected, "a client")
        count = len(self.bench.recorder.messages)
        client.publish(FORBIDDEN, b"\x08\x01", 1)
        acknowledged.wait(3)
        time.sleep(0.5)
        topics = [message.topic for message in self.bench.recorder.messages[count:]]
        with self.check("what a client may not publish reaches nobody"):
            assert FORBIDDEN not in topics
        self.seen["a forbidden message at QoS 1 is acknowledged all the same"] = acknowledged.is_set()
        self.seen["the connection of who sent it stays"] = client.is_connected()
        client.disconnect()
        client.loop_stop()

    def version_5(self):
        """CONNECT of MQTT 5, by hand."""
        with socket.create_connection(("127.0.0.1", self.bench.broker.port)) as connection:
            connection.settimeout(3)
            connection.sendall(bytes.fromhex("100e00044d51545405020000000001") + b"5")
            try:
                answer = connection.recv(5)
            except OSError:
                answer = b""
        self.seen["MQTT 5 is taken"] = answer[:1] == b"\x20" and answer[3:4] == b"\0"


def words(value):
    """A float as two registers."""
    high, low = struct.unpack(">HH", struct.pack(">f", value))
    return f"{high:04X} {low:04X}"


def live(report, tidegate, name, broker):
    bench = Bench(report, tidegate, lambda: (), broker=broker, protocol=MQTT_3)
    try:
        passage = Passage(bench.broker.port)
        bench.stack.callback(passage.close)
        with bench.gateway("cell-1", broker_port=passage.port, uplink=COMMANDS) as (gateway, node):
            life = Life(bench, name, gateway, node, passage)
            life.run()
            return life.seen
    finally:
        bench.close()


def main():
    parser = argparse.ArgumentParser(description="The gateway at NATS, beside Mosquitto.")
    parser.add_argument("--tidegate", type=Path, required=True)
    parser.add_argument("--nats", type=Path, required=True)
    arguments = parser.parse_args()
    Nats.program = arguments.nats.resolve()
    report = Report()
    for wanted in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(wanted, lambda number, _frame: sys.exit(128 + number))
    print(subprocess.run([Nats.program, "--version"], capture_output=True, text=True).stdout.strip())
    seen = {}
    for name, broker in (("Mosquitto", Mosquitto), ("NATS", Nats)):
        with report.check(f"{name}: a life to its end"):
            seen[name] = live(report, arguments.tidegate.resolve(), name, broker)
    print("\nwhat differs (Mosquitto, NATS):")
    for what, said in seen.get("Mosquitto", {}).items():
        other = seen.get("NATS", {}).get(what)
        print(f"{'differs' if said != other else 'alike  '} {what}: {said}, {other}")
    return report.summary()


if __name__ == "__main__":
    sys.exit(main())
