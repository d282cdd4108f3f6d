"""Messages as they came, opened with google's protobuf and nothing else in between."""

from pysparkplug._protobuf import Payload

from report import expect

BD_SEQ = "bdSeq"
REBIRTH = "Node Control/Rebirth"
INT32, INT64, BOOLEAN, STRING = 3, 4, 11, 12
GOOD, BAD, STALE = 192, 0, 500


class Message:
    def __init__(self, topic, raw, qos, retain, arrived):
        self.topic = topic
        self.raw = raw
        self.qos = qos
        self.retain = retain
        self.arrived_ms = arrived * 1000
        levels = topic.split("/")
        self.kind, self.node = levels[2:4] if len(levels) >= 4 else ("", "")
        self.device = levels[4] if len(levels) > 4 else None
        self.is_command = self.kind in ("NCMD", "DCMD")  # those are ours, garbage among them
        self.payload = Payload()
        if self.kind and not self.is_command:  # the state of a host is no payload
            self.payload.ParseFromString(raw)

    def metric(self, name):
        found = [metric for metric in self.payload.metrics if metric.name == name]
        assert len(found) == 1, f"{self.topic} has {len(found)} metrics {name}"
        return found[0]

    def names(self):
        return [metric.name for metric in self.payload.metrics]

    def bd_seq(self):
        metric = self.metric(BD_SEQ)
        expect((metric.datatype, metric.WhichOneof("value")), (INT64, "long_value"), "bdSeq's datatype and field")
        assert not metric.HasField("alias"), "bdSeq has an alias"
        return metric.long_value


def raw_value(metric):
    """Name of the field and what is in it; None twice for null."""
    used = metric.WhichOneof("value")
    return used, getattr(metric, used) if used else None


def properties(metric):
    """Key -> value; each must have its type and the field that belongs to it."""
    keys, values = metric.properties.keys, metric.properties.values
    expect(len(values), len(keys), f"values of the properties of {metric.name}")
    found = {}
    for key, value in zip(keys, values):
        wanted = {INT32: "int_value", STRING: "string_value", BOOLEAN: "boolean_value"}.get(value.type)
        expect(value.WhichOneof("value"), wanted, f"field of the property {key} (type {value.type}) of {metric.name}")
        found[key] = getattr(value, wanted)
    return found


def quality(metric):
    """Quality and reason, where the metric says them."""
    found = properties(metric)
    return found.get("Quality"), found.get("Reason")


def check_sequence(messages):
    """Births first, seq from 0 and on by one, deaths outside of the count, QoS and retain of every message."""
    expected, born = None, set()
    for message in messages:
        payload, topic = message.payload, message.topic
        assert not message.retain, f"{topic} is retained"
        if message.kind == "NDEATH":
            expect(message.qos, 1, f"QoS of {topic}")
            assert not payload.HasField("seq"), f"{topic} has a seq"
            expect(message.names(), [BD_SEQ], f"metrics of {topic}")
            expected = None
            continue
        if message.kind == "NBIRTH":
            expected = 0
        assert expected is not None, f"{topic} outside of a session"
        expect(message.qos, 0, f"QoS of {topic}")
        assert payload.HasField("seq"), f"{topic} has no seq"
        expect(payload.seq, expected, f"seq of {topic}")
        expected = (expected + 1) % 256
        assert payload.HasField("timestamp"), f"{topic} has no timestamp"
        for metric in payload.metrics:
            assert metric.HasField("timestamp"), f"{topic} {metric.name} has no timestamp"
            # what was missed, or was sent in the last keep-alives before an unclean end, comes again, marked as such
            is_history = message.kind == "DDATA" and metric.is_historical
            assert is_history or not metric.HasField("is_historical"), f"{topic} {metric.name} says is_historical"
        if message.kind == "NBIRTH":
            born = set()
        elif message.kind == "DBIRTH":
            born.add(message.device)
        elif message.kind == "DDEATH":
            born.discard(message.device)
        if message.kind == "DDATA":
            assert message.device in born, f"{topic} of a device that is not born"
        if message.kind in ("NDATA", "DDATA"):
            assert payload.metrics, f"{topic} has no metrics"
