"""What the gateway says when it appears: envelope, order, every value of the known image."""

import image
from decoders import differences
from report import expect
from wire import BAD, BD_SEQ, BOOLEAN, GOOD, REBIRTH, check_sequence, properties, quality, raw_value

CLOSE_MS = 2000


def wide(tag):
    return tag.wide


def exact(tag):
    return tag.exact


def check_all(bench, gateway, node):
    check = bench.report.check
    with check("births arrive"):
        node.wait_births(image.DEVICES, timeout=15)
        gateway.must_run()
    with check("envelope: births come first, seq counts on by one, QoS 0, nothing retained"):
        first = node.messages()[0]
        expect((first.kind, first.payload.seq), ("NBIRTH", 0), "first message and its seq")
        check_sequence(node.messages())
    with check("the node's birth has bdSeq 0 at the very first start, and Node Control/Rebirth"):
        birth = node.wait("NBIRTH")
        expect(birth.bd_seq(), 0, BD_SEQ)
        rebirth = birth.metric(REBIRTH)
        expect((rebirth.datatype, raw_value(rebirth)), (BOOLEAN, ("boolean_value", False)), REBIRTH)
        expect(birth.metric("Properties/site").string_value, "lab/bench-1", "Properties/site")
    with check("session as mosquitto sees it: clean, will at QoS 1 and not retained, commands subscribed before the birth"):
        check_broker_log(bench.broker.log(), node)
    with check("each device's birth has every tag once, with name, datatype and a present timestamp"):
        for device in image.DEVICES:
            check_shape(node.wait("DBIRTH", device), device)
    with check("properties of births: Quality and Reason, engUnit and unece of the tags that have a unit"):
        for device in image.DEVICES:
            check_properties(node.wait("DBIRTH", device), device)
    with check("an illegal address is bad by itself: null, Quality 0, bad:config; its neighbours are good"):
        check_absent(node.wait("DBIRTH", "oven"))
    for decoder in bench.decoders:
        with check(f"births read by {decoder.name}: every value and datatype, wide"):
            check_decoded(decoder, node, image.DEVICES, wide)


def check_decoded(decoder, node, devices, datatype_of, skip=lambda tag: False):
    """The births of `devices` against the image."""
    faults = []
    decoder.decode(node.wait("NBIRTH"))
    for device in devices:
        tags = [tag for tag in image.of_device(device) if not skip(tag)]
        skipped = {tag.name for tag in image.of_device(device) if skip(tag)}
        decoded = [metric for metric in decoder.decode(node.wait("DBIRTH", device)) if metric.name not in skipped]
        faults += differences(decoded, tags, datatype_of)
        if decoder.shows_properties:
            faults += [
                f"{device} {metric.name}: properties {metric.properties}"
                for metric in decoded
                if metric.properties.get("Quality") != (BAD if metric.name == image.ABSENT else GOOD)
                or metric.properties.get("engUnit") != image.tag(device, metric.name).properties.get("engUnit")
            ]
    assert not faults, "; ".join(faults)


def check_broker_log(log, node):
    lines = log.splitlines()
    number = next((i for i, line in enumerate(lines) if "New client connected" in line and f"peers/{node.name} " in line), None)
    assert number is not None, f"no connection with the client id peers/{node.name}"
    expect("c1" in lines[number], True, f"clean session in {lines[number]!r}")
    mine = "\n".join(lines[number:])
    assert "(r0, q1)" in lines[number + 1], f"will not at QoS 1 or retained: {lines[number + 1]!r}"
    assert f"spBv1.0/peers/NDEATH/{node.name}" in lines[number + 2], f"topic of the will: {lines[number + 2]!r}"
    born = mine.index(f"spBv1.0/peers/NBIRTH/{node.name}'")
    for topic in (f"spBv1.0/peers/NCMD/{node.name} (QoS 1)", f"spBv1.0/peers/DCMD/{node.name}/+ (QoS 1)"):
        assert 0 <= mine.find(topic) < born, f"{topic} is not subscribed before NBIRTH"


def told_last(messages, device):
    """When each tag of a device was told last: the time of its value."""
    mine = (message for message in messages if message.device == device and message.kind in ("DBIRTH", "DDATA"))
    return {metric.name: metric.timestamp for message in mine for metric in message.payload.metrics}


def check_shape(birth, device, told=None, control=()):
    """A birth at first sight is of the moment; one that was asked for repeats what was `told` last, with its time.

    `control`: names of texts that it has beside its tags.
    """
    tags = {tag.name: tag for tag in image.of_device(device)}
    expect(sorted(birth.names()), sorted([*tags, *control]), f"metrics of {birth.topic}")
    assert abs(birth.payload.timestamp - birth.arrived_ms) < CLOSE_MS, f"timestamp of {birth.topic}"
    for metric in birth.payload.metrics:
        wide = image.STRING if metric.name in control else tags[metric.name].wide
        expect(metric.datatype, wide, f"datatype of {device} {metric.name}")
        assert not metric.HasField("alias"), f"{device} {metric.name} has an alias"
        late = birth.arrived_ms - metric.timestamp
        if told is None:
            assert -CLOSE_MS < late < CLOSE_MS, f"{device} {metric.name} is {late:.0f} ms older than its birth"
        else:
            expect(metric.timestamp, told[metric.name], f"time of {device} {metric.name}")


def check_properties(birth, device):
    for tag in image.of_device(device):
        if tag.name != image.ABSENT:
            wanted = {"Quality": GOOD, "Reason": "good", **tag.properties}
            expect(properties(birth.metric(tag.name)), wanted, f"properties of {device} {tag.name}")


def check_absent(birth):
    absent = birth.metric(image.ABSENT)
    expect(quality(absent), (BAD, "bad:config"), f"quality of {image.ABSENT}")
    expect((absent.is_null, raw_value(absent)), (True, (None, None)), f"null of {image.ABSENT}")
    for name, value in (("gap/before", 0xFFFFFFFF), ("gap/after", 1)):
        metric = birth.metric(name)
        expect((quality(metric), raw_value(metric)), ((GOOD, "good"), ("int_value", value)), name)
