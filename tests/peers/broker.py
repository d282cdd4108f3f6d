"""The broker, and a client that records everything that it delivers."""

import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from report import wait_for
from wire import Message

SEARCH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))


MQTT_3, MQTT_5 = mqtt.MQTTv311, mqtt.MQTTv5


def find(program):
    return shutil.which(program, path=SEARCH)


class Broker:
    """mosquitto with an open listener and one that wants a password."""

    def __init__(self, folder, open_port, locked_port, username, password):
        self.folder = Path(folder)
        self.port = open_port
        self.process = None
        passwords = self.folder / "passwords"
        subprocess.run([find("mosquitto_passwd"), "-b", "-c", passwords, username, password], check=True, capture_output=True)
        passwords.chmod(0o644)  # mosquitto may read it as another user
        self.log_path = self.folder / "mosquitto.log"
        user = "user root\n" if os.geteuid() == 0 else ""  # or it could not write to the folder
        # the session of the recorder, QoS 0 included, outlives a restart: it misses nothing, whoever is faster to connect
        (self.folder / "mosquitto.conf").write_text(
            f"""{user}per_listener_settings true
persistence true
persistence_location {self.folder}/
queue_qos0_messages true
log_type all
log_dest file {self.log_path}
listener {open_port} 127.0.0.1
allow_anonymous true
listener {locked_port} 127.0.0.1
allow_anonymous false
password_file {passwords}
"""
        )

    def start(self):
        self.process = subprocess.Popen([find("mosquitto"), "-c", self.folder / "mosquitto.conf"], stderr=subprocess.DEVNULL)
        wait_for(lambda: is_listening(self.port), "mosquitto takes connections")

    def stop(self):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""


def is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def displace(port, client_id):
    """Connects another client of the same id, for a moment: the broker ends the connection of the first (MQTT-3.1.4-2)."""
    other = mqtt.Client(client_id=client_id, protocol=MQTT_3)
    other.connect("127.0.0.1", port)
    other.loop_start()
    wait_for(other.is_connected, "another client of the same id")
    other.disconnect()
    other.loop_stop()


class Recorder:
    """Subscribes to all of Sparkplug and keeps each message as it came, with the time."""

    def __init__(self, port, protocol=MQTT_5):
        self.messages = []
        self.subscribed = threading.Event()
        self.protocol = protocol
        self.client = mqtt.Client(client_id="recorder", protocol=protocol)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = self._on_message
        if protocol == MQTT_5:
            stay = Properties(PacketTypes.CONNECT)
            stay.SessionExpiryInterval = 3600
            self.client.connect("127.0.0.1", port, clean_start=False, properties=stay)
        else:
            self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        if not self.subscribed.wait(10):
            raise TimeoutError("the recorder's subscription is not granted")

    def _on_connect(self, client, *_):
        if self.protocol == MQTT_5:
            client.subscribe("spBv1.0/#", options=SubscribeOptions(qos=1, retainAsPublished=True))
        else:
            client.subscribe("spBv1.0/#", qos=1)

    def _on_message(self, _client, _userdata, message):
        self.messages.append(Message(message.topic, message.payload, message.qos, message.retain, time.time()))

    def publish(self, topic, payload, qos=0):
        self.client.publish(topic, payload, qos).wait_for_publish(5)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


class Node:
    """What one edge node has sent."""

    def __init__(self, recorder, group, name):
        self.recorder = recorder
        self.group = group
        self.name = name

    def messages(self, since=0):
        mine = [message for message in list(self.recorder.messages) if message.node == self.name and not message.is_command]
        return mine[since:]

    def mark(self):
        """A place in the record: `since` it is everything that comes after."""
        return len(self.messages())

    def wait(self, kind, device=None, since=0, where=lambda message: True, timeout=10.0):
        def found():
            for message in self.messages(since):
                if (message.kind, message.device) == (kind, device) and where(message):
                    return message
            return None

        return wait_for(found, f"{kind} {device or self.name}", timeout)

    def wait_births(self, devices, since=0, timeout=10.0):
        """NBIRTH, and the DBIRTH of each of `devices` after it."""
        births = {"": self.wait("NBIRTH", since=since, timeout=timeout)}
        for device in devices:
            births[device] = self.wait("DBIRTH", device, since=since, timeout=timeout)
        return births

    def data(self, device, name, since=0):
        """Each DDATA metric of one tag, in the order in which it came, with its message."""
        found = []
        for message in self.messages(since):
            if (message.kind, message.device) == ("DDATA", device):
                found += [(message, metric) for metric in message.payload.metrics if metric.name == name]
        return found

    def wait_data(self, device, name, where, since=0, timeout=10.0):
        def found():
            return next((pair for pair in self.data(device, name, since) if where(pair[1])), None)

        return wait_for(found, f"DDATA {device} {name}", timeout)

    def count(self, kind, since=0):
        return sum(message.kind == kind for message in self.messages(since))

    def command(self, payload, qos=0, device=None):
        to = f"DCMD/{self.name}/{device}" if device else f"NCMD/{self.name}"
        self.recorder.publish(f"spBv1.0/{self.group}/{to}", payload, qos)
