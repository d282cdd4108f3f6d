"""A host application that others have written (the Rust crate srad, in tests/host): it follows the node through everything
that may happen to one, and never has a reason to ask for a rebirth."""

import json
import signal
import subprocess
import threading

import exact
import image
from broker import displace
from commands import rebirth
from decoders import Decoded, differences, is_same
from gateway import GROUP
from report import expect, wait_for

FORMS = {"names": "", "aliases": "aliases = true\n", "exact": 'types = "exact"\n'}


class Host:
    """The host, and what it has said."""

    def __init__(self, binary, broker_port):
        self.events = []
        command = [binary, f"127.0.0.1:{broker_port}"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self):
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def mark(self):
        return len(self.events)

    def wait(self, event, node=None, device=None, since=0, where=lambda event: True, timeout=15.0):
        def found():
            for said in list(self.events)[since:]:
                if (said["event"], said.get("node"), said.get("device")) == (event, node, device) and where(said):
                    return said
            return None

        return wait_for(found, f"the host says {event} of {node} {device or ''}", timeout)

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def run(bench):
    host = Host(bench.host, bench.broker.port)
    try:
        with bench.report.check("host: it is online"):
            host.wait("online")
        for form, uplink in FORMS.items():
            bench.floor.restore()
            with bench.gateway(f"cell-host-{form}", uplink=uplink) as (gateway, node):
                Life(bench, host, gateway, node, form).run()
    finally:
        host.close()


class Life:
    """One node, from its birth to its death, as the host sees it."""

    def __init__(self, bench, host, gateway, node, form):
        self.bench, self.host, self.gateway, self.node = bench, host, gateway, node
        self.form = form
        self.first_command = len(bench.recorder.messages)
        self.datatype_of = (lambda tag: tag.exact) if form == "exact" else (lambda tag: tag.wide)
        self.asked = 0  # rebirths that this test has asked for

    def check(self, what):
        return self.bench.report.check(f"host, {self.form}: {what}")

    def wait(self, event, device=None, since=0, where=lambda event: True):
        return self.host.wait(event, self.node.name, device, since, where)

    def requests(self):
        """Commands to this node since the start."""
        topic = f"spBv1.0/{GROUP}/NCMD/{self.node.name}"
        return sum(message.topic == topic for message in self.bench.recorder.messages[self.first_command :])

    def run(self):
        with self.check("births, every value"):
            self.gateway.start()
            self.births(0)
        if self.form == "exact":
            with self.check("what each reader makes of each datatype is what the table in docs/sparkplug.md says"):
                read = {device: self.wait("birth", device)["metrics"] for device in image.DEVICES}
                exact.check(self.bench, self.node, read)
        with self.check("data"):
            self.data("press", "live/f32", "4110 0000", 9.0)
            self.data("drive", "live/u16", "0007", 7)
        self.devices()
        self.rebirth()
        self.connections()
        with self.check("it has never asked for a rebirth"):
            expect(self.requests(), self.asked, "requests for rebirth at the broker")
        self.broker_restart()

    def births(self, since):
        self.wait("birth", None, since)
        for device in image.DEVICES:
            self.birth(device, since)

    def birth(self, device, since):
        """A birth as the host knows it has every tag with datatype and value; those that a test changes may be others."""
        said = self.wait("birth", device, since)["metrics"]
        metrics = [Decoded(name, 0, metric["datatype"], metric["value"], metric["timestamp"], {}) for name, metric in said.items()]
        live = [tag.name for tag in image.of_device(device) if tag.name.startswith("live/")]
        tags = [tag for tag in image.of_device(device) if tag.name not in live]
        found = differences([metric for metric in metrics if metric.name not in live], tags, self.datatype_of)
        assert not found, "; ".join(found)
        assert set(live) <= set(said), f"{device} lacks some of {live}"

    def data(self, device, name, words, value):
        since = self.host.mark()
        datatype = self.datatype_of(image.tag(device, name))
        self.bench.floor.set_tag(device, name, words)

        def is_told(event):
            return name in event["metrics"] and is_same(datatype, event["metrics"][name]["value"], value)

        self.wait("data", device, since, is_told)

    def devices(self):
        with self.check("a device that is silent dies for it, others live, and it is born again"):
            since = self.host.mark()
            self.bench.floor.silence("oven")
            self.wait("stale", "oven", since)
            self.data("press", "live/f32", "4120 0000", 10.0)
            self.bench.floor.answer_again("oven")
            self.birth("oven", since)
            stale = [event["device"] for event in self.host.events[since:] if event["event"] == "stale" and event["node"] == self.node.name]
            expect(stale, ["oven"], "what became stale")
            self.data("oven", "live/i16", "FFFB", -5)

    def rebirth(self):
        with self.check("a rebirth that somebody else has asked for"):
            since = self.host.mark()
            self.node.command(rebirth())
            self.asked += 1
            for device in image.DEVICES:
                self.birth(device, since)
            self.data("press", "live/f32", "4130 0000", 11.0)

    def connections(self):
        with self.check("a connection that is lost: death by the will, births, data"):
            since = self.host.mark()
            displace(self.bench.broker.port, f"{GROUP}/{self.node.name}")
            self.wait("stale", None, since)
            self.births(since)
            self.data("press", "live/f32", "4140 0000", 12.0)
        with self.check("kill -9: death by the will; a start: births, data"):
            since = self.host.mark()
            self.gateway.process.send_signal(signal.SIGKILL)
            self.gateway.process.wait(5)
            self.wait("stale", None, since)
            self.gateway.start()
            self.births(since)
            self.data("press", "live/f32", "4150 0000", 13.0)
        with self.check("an end in order: death; a start: births, data"):
            since = self.host.mark()
            expect(self.gateway.terminate(), 0, "exit code")
            self.wait("stale", None, since)
            self.gateway.start()
            self.births(since)
            self.data("press", "live/f32", "4160 0000", 14.0)

    def broker_restart(self):
        """The host may come back after the births: then it has to ask, once, and gets all."""
        with self.check("the broker restarts: the host has all again with one request at most"):
            since, asked = self.host.mark(), self.requests()
            self.bench.broker.stop()
            self.bench.broker.start()
            self.host.wait("online", since=since)
            self.births(since)
            self.data("press", "live/f32", "4170 0000", 15.0)
            assert self.requests() - asked <= 1, f"{self.requests() - asked} requests"
