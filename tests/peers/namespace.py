"""JSON on topics of a unified namespace: every message against the schema, every value against the image."""

import json
import re
import struct
import threading
from pathlib import Path

import jsonschema
import paho.mqtt.client as mqtt

import image
from gateway import GROUP
from report import expect, wait_for

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "json-schema.json").read_text())
EXACT_MAX = 2**53 - 1
SITE = "lab/bench-1"


class Reader:
    """Keeps each message under a topic as it came; a second one is handed what the broker has kept."""

    def __init__(self, port, name, topic):
        self.messages = []
        self.subscribed = threading.Event()
        self.client = mqtt.Client(client_id=name)
        self.client.on_connect = lambda client, *_: client.subscribe(topic, 1)
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = lambda _client, _userdata, message: self.messages.append(message)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        if not self.subscribed.wait(10):
            raise TimeoutError(f"the subscription to {topic} is not granted")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()

    def of(self, topic):
        return [read(message) for message in list(self.messages) if message.topic == topic]

    def wait(self, topic, where=lambda message: True, timeout=15.0):
        return wait_for(lambda: next(filter(where, self.of(topic)), None), topic, timeout)


def read(message):
    """Strictly: no NaN, no number that Python has and JSON has not, no key twice."""

    def once(pairs):
        assert len(dict(pairs)) == len(pairs), f"a key twice in {message.payload!r}"
        return dict(pairs)

    def never(name):
        raise AssertionError(f"{name} in {message.payload!r}")

    return json.loads(message.payload.decode("utf-8"), object_pairs_hook=once, parse_constant=never)


def run(bench):
    check = bench.report.check
    with check("json: the schema is one (2020-12)"):
        jsonschema.Draft202012Validator.check_schema(SCHEMA)
    by_tag(bench, "cell-6")
    by_device(bench, "cell-7")


def by_tag(bench, name):
    check, root = bench.report.check, f"{GROUP}/{SITE}/{name}"
    uplink = 'payload = "json"\nretain = true\nkeep_alive = "5s"\n'
    with Reader(bench.broker.port, f"reader-{name}", f"{root}/#") as reader, bench.gateway(name, uplink=uplink) as (gateway, _):
        gateway.start()
        with check("json, tag by tag: each value on the topic of its tag, as in the image"):
            for tag in image.TAGS:
                check_reading(tag, reader.wait(f"{root}/{tag.device}/{tag.name}"))
        with check("json, tag by tag: a change is told, with its time"):
            bench.floor.set_tag("press", "live/i32", "FFFF FF85")
            reader.wait(f"{root}/press/live/i32", lambda message: message["value"] == -123)
        with check("json: gateway and devices say that they are there"):
            number = reader.wait(f"{root}/status")["session"]
            for device in image.DEVICES:
                reader.wait(f"{root}/{device}/status", lambda message: message["online"])
        with check("json: what the broker has kept is the last of each topic, for whoever comes later"):
            with Reader(bench.broker.port, f"late-{name}", f"{root}/#") as late:
                wanted = {f"{root}/{tag.device}/{tag.name}" for tag in image.TAGS}
                wanted |= {f"{root}/status", *(f"{root}/{device}/status" for device in image.DEVICES)}
                wait_for(lambda: {message.topic for message in list(late.messages)} >= wanted, "what is kept")
                assert all(message.retain for message in late.messages[: len(wanted)]), "kept messages are retained"
        with check("json: a kill -9 is told by the will, for the session that has ended, and kept"):
            gateway.kill()
            gone = reader.wait(f"{root}/status", lambda message: not message["online"])
            expect(gone, {"online": False, "session": number}, "the will")
        with check("json: a gateway that is back is told anew, and what it repeats is history, which is never kept"):
            gateway.start()
            reader.wait(f"{root}/status", lambda message: message["online"] and message["session"] != number)
            reader.wait(f"{root}/press/live/i32", lambda message: message.get("historical"))
            expect(gateway.terminate(), 0, "exit code")
            reader.wait(f"{root}/status", lambda message: message == {"online": False, "session": number + 1})
            with Reader(bench.broker.port, f"later-{name}", f"{root}/#") as later:
                wait_for(lambda: len(later.messages) >= len(image.TAGS) + 4, "what is kept")
                old = [message.topic for message in later.messages if read(message).get("historical")]
                expect(old, [], "history that the broker has kept")
        check_schema(bench, reader, "tag by tag", {"tag", "device_status", "gateway_online", "gateway_offline"})


def by_device(bench, name):
    check, root = bench.report.check, f"plant/{name}"
    uplink = 'payload = "json"\nmessage = "device"\nretain = true\ntopic = "plant/{gateway}/{device}/now"\n'
    with Reader(bench.broker.port, f"reader-{name}", f"{root}/#") as reader, bench.gateway(name, uplink=uplink) as (gateway, _):
        gateway.start()
        with check("json, device by device: one message has every value, as in the image"):
            bench.floor.restore()
            for device in image.DEVICES:
                tags = image.of_device(device)
                whole = lambda message, tags=tags: all(tag.name in message["tags"] for tag in tags)
                message = reader.wait(f"{root}/{device}/now", whole)
                expect(message["device"], device, "device")
                expect(message["timestamp"], max(one["timestamp"] for one in message["tags"].values()), "time")
        with check("json, device by device: what is kept is whole after a change of one tag"):
            bench.floor.set_tag("press", "live/text", "6E65 7700 0000")
            is_new = lambda message: message["tags"].get("live/text", {}).get("value") == "new"
            message = reader.wait(f"{root}/press/now", is_new)
            for tag in image.of_device("press"):
                if not tag.name.startswith("live/"):
                    check_reading(tag, message["tags"][tag.name])
            expect(gateway.terminate(), 0, "exit code")
            reader.wait(f"{root}/status", lambda message: not message["online"])
        check_schema(bench, reader, "device by device", {"device", "device_status", "gateway_online", "gateway_offline"})


def check_reading(tag, reading):
    got, wanted = reading["value"], tag.value
    if isinstance(wanted, int) and not isinstance(wanted, bool) and abs(wanted) > EXACT_MAX:
        wanted = str(wanted)
    if tag.wide == image.FLOAT:
        got, wanted = (struct.pack(">f", value) for value in (got, wanted))
    same = got == wanted and (type(got) is type(wanted) or tag.wide == image.DOUBLE)
    assert same, f"{tag.device} {tag.name}: {reading}, wanted {tag.value!r}"
    expect(reading["quality"], "bad:config" if tag.name == image.ABSENT else "good", f"quality of {tag.name}")
    unit = re.search('unit = "([^"]+)"', tag.keys)
    expect(reading.get("unit"), unit and unit[1], f"unit of {tag.name}")


def check_schema(bench, reader, what, kinds):
    """Every message is one of `kinds`, each of them came, and what the schema must refuse it refuses."""
    validators = {
        kind: jsonschema.Draft202012Validator({**SCHEMA, "oneOf": [{"$ref": f"#/$defs/{kind}"}]}) for kind in kinds
    }
    seen = set()
    with bench.report.check(f"json, {what}: every message keeps to the schema"):
        jsonschema_of_all = jsonschema.Draft202012Validator(SCHEMA)
        messages = [(message.topic, read(message)) for message in list(reader.messages)]
        for topic, message in messages:
            error = jsonschema.exceptions.best_match(jsonschema_of_all.iter_errors(message))
            assert error is None, f"{topic} {message}: {error.message}"
            seen |= {kind for kind, validator in validators.items() if validator.is_valid(message)}
        expect(seen, kinds, f"kinds of the {len(messages)} messages")
        assert all(message.qos == 1 for message in reader.messages), "a message that is not at QoS 1"
    with bench.report.check(f"json, {what}: the schema refuses each message with a field too many or too few"):
        for topic, message in messages:
            assert not jsonschema_of_all.is_valid({**message, "more": 1}), f"{topic} with one more"
            for field in set(message) - {"unit", "historical"}:
                rest = {key: value for key, value in message.items() if key != field}
                assert not jsonschema_of_all.is_valid(rest), f"{topic} without {field}"
