"""One gateway from its first birth to its death: data, commands, faults on both sides."""

import signal
import time

import births
import image
from commands import GARBAGE, bare_rebirth, rebirth
from decoders import is_same
from report import expect, wait_for
from wire import BAD, STALE, check_sequence, quality, raw_value

FLOATS = [("4020 0000", 2.5), ("C060 0000", -3.5), ("7F7F FFFF", 3.4028234663852886e38), ("0000 0001", 1.401298464324817e-45)]
INTEGERS = [("8000 0000", -2147483648), ("FFFF FF85", -123), ("7FFF FFFF", 2147483647)]
TEXTS = [("7477 6F00 0000", "two"), ("7468 7265 6500", "three"), ("0000 0000 0000", "")]
# of each datatype that the ones before are not of, at the ends of what it holds
OTHERS = [
    ("u16/plain", "FFFF", 65535),
    ("i16/plain", "8000", -32768),
    ("u32/abcd", "FFFF FFFF", 4294967295),
    ("i64/abcd", "8000 0000 0000 0000", -9223372036854775808),
    ("u64/abcd", "FFFF FFFF FFFF FFFF", 18446744073709551615),
    ("f64/abcd", "FFEF FFFF FFFF FFFF", -1.7976931348623157e308),
    ("scaled/i16", "7FFF", 3276.7),
    ("bit/3", "0000", False),
]
TWOS_COMPLEMENT = {-2147483648: 0x80000000, -123: 0xFFFFFF85, 2147483647: 0x7FFFFFFF}
SLACK_MS = 250


def run(bench):
    with bench.gateway("cell-1") as (gateway, node):
        gateway.start()
        births.check_all(bench, gateway, node)
        data(bench, node)
        commands(bench, gateway, node)
        silence(bench, gateway, node)
        disconnection(bench, gateway, node)
        broker_restart(bench, gateway, node)
        end(bench, gateway, node)
    with bench.report.check("envelope over the whole life, rebirths and restarts included"):
        check_sequence(node.messages())


def data(bench, node):
    check = bench.report.check
    for name, steps in (("live/f32", FLOATS), ("live/i32", INTEGERS), ("live/text", TEXTS)):
        since = node.mark()
        with check(f"data of {name}: each change once, in order, on time, without datatype and quality"):
            change(bench, node, name, steps, since)
        for decoder in bench.decoders:
            with check(f"data of {name} read by {decoder.name} with the datatypes of the birth"):
                birth, tag = node.wait("DBIRTH", "press"), image.tag("press", name)
                messages = [message for message, _ in node.data("press", name, since)]
                metrics = [metric for message in messages for metric in decoder.decode(message, birth) if metric.name == name]
                wanted = [value for _, value in steps]
                are_same = [is_same(tag.wide, metric.value, value) for metric, value in zip(metrics, wanted)]
                got = [metric.value for metric in metrics]
                assert len(got) == len(wanted) and all(are_same), f"got {got}, wanted {wanted}"
    others(bench, node)


def others(bench, node):
    """Data of every other datatype, read by everybody, and back to the image."""
    birth, since = node.wait("DBIRTH", "press"), node.mark()
    for name, words, _ in OTHERS:
        bench.floor.set_tag("press", name, words)
    for name, _, _ in OTHERS:
        node.wait_data("press", name, lambda metric: True, since)
    for decoder in bench.decoders:
        with bench.report.check(f"data of every datatype read by {decoder.name}"):
            for name, _, value in OTHERS:
                message, _ = node.data("press", name, since)[0]
                got = next(metric.value for metric in decoder.decode(message, birth) if metric.name == name)
                assert is_same(image.tag("press", name).wide, got, value), f"{name}: got {got!r}, wanted {value!r}"
    since = node.mark()
    for name, _, _ in OTHERS:
        bench.floor.set_tag("press", name, image.tag("press", name).words)
    for name, _, _ in OTHERS:
        node.wait_data("press", name, lambda metric: True, since)


def change(bench, node, name, steps, since):
    tag = image.tag("press", name)
    for words, value in steps:
        before = time.time() * 1000
        bench.floor.set_tag("press", name, words)
        # polled every 100 ms: the wait is a bound, not the pace
        message, metric = node.wait_data("press", name, lambda metric: holds(metric, tag, value), since)
        late = metric.timestamp - before
        assert -SLACK_MS < late < births.CLOSE_MS, f"{value!r} has a time {late:.0f} ms after it was set"
        assert metric.timestamp <= message.arrived_ms + SLACK_MS, f"{value!r} has a time after its arrival"
    metrics = [metric for _, metric in node.data("press", name, since)]
    expect(len(metrics), len(steps), "number of readings")
    times = [metric.timestamp for metric in metrics]
    expect(times, sorted(times), "times in order")
    for metric in metrics:
        extras = [field for field in ("datatype", "alias", "properties", "is_null") if metric.HasField(field)]
        expect(extras, [], f"fields of {name} that say nothing new")


def holds(metric, tag, value):
    """Whether the raw metric carries `value`: two's complement for negative numbers."""
    field = {image.FLOAT: "float_value", image.STRING: "string_value"}.get(tag.wide, "int_value")
    used, got = raw_value(metric)
    return used == field and is_same(tag.wide, got, TWOS_COMPLEMENT.get(value, value))


def commands(bench, gateway, node):
    check = bench.report.check
    for name, payload, qos in (("rebirth of pysparkplug", rebirth, 0), ("rebirth at QoS 1 without a time", bare_rebirth, 1)):
        with check(f"{name}: births with the same bdSeq, seq from 0, no death"):
            bd_seq, since = node.wait("NBIRTH").bd_seq(), node.mark()
            node.command(payload(), qos)
            again = node.wait_births(image.DEVICES, since)
            expect(again[""].bd_seq(), bd_seq, "bdSeq")
            expect(node.count("NDEATH", since) + node.count("DDEATH", since), 0, "deaths")
            expect(births_only(node.messages(since)), ["NBIRTH", *["DBIRTH"] * len(image.DEVICES)], "births")
            for device in image.DEVICES:
                births.check_shape(again[device], device, births.told_last(node.messages()[:since], device))
    with check("garbage as a command: nothing happens, data and a real command go on"):
        since = node.mark()
        for payload in GARBAGE.values():
            node.command(payload)
            node.command(payload, 1)
        bench.floor.set_tag("drive", "live/u16", "0002")
        node.wait_data("drive", "live/u16", lambda metric: metric.int_value == 2, since)
        # commands are obeyed in the order in which they come: all garbage is behind us when this one is answered
        node.command(rebirth())
        node.wait_births(image.DEVICES, since)
        expect(node.count("NBIRTH", since), 1, "births of the node")
        gateway.must_run()


def births_only(messages):
    return [message.kind for message in messages if message.kind.endswith("BIRTH")]


def last_qualities(node, device, since):
    """Of each tag what DDATA said last: quality, reason, and whether there is a value."""
    said = {}
    for message in node.messages(since):
        if (message.kind, message.device) == ("DDATA", device):
            said |= {metric.name: (*quality(metric), metric.is_null) for metric in message.payload.metrics}
    return said


def wait_qualities(node, device, since, wanted):
    def is_reached():
        said = last_qualities(node, device, since)
        return all(said.get(name) == state for name, state in wanted.items())

    try:
        wait_for(is_reached, f"the qualities of {device}")
    except TimeoutError as error:
        said = last_qualities(node, device, since)
        others = {name: said.get(name) for name, state in wanted.items() if said.get(name) != state}
        raise AssertionError(f"{error}; otherwise: {others}") from None


def silence(bench, gateway, node):
    check = bench.report.check
    since = node.mark()
    tags = [tag for tag in image.of_device("oven") if tag.name != image.ABSENT]
    bench.floor.silence("oven")
    with check("a silent device: its tags keep their values with Quality 500, bad:comm_last_value_known"):
        wait_qualities(node, "oven", since, {tag.name: (STALE, "bad:comm_last_value_known", False) for tag in tags})
        _, metric = node.wait_data("oven", "input/f32", lambda metric: quality(metric)[0] == STALE, since)
        expect(raw_value(metric), ("float_value", -100.0), "input/f32")
    with check("a silent device: DDEATH after its tags have turned, and only once"):
        death = node.wait("DDEATH", "oven", since)
        turned, _ = node.wait_data("oven", "input/f32", lambda metric: quality(metric)[0] == STALE, since)
        # two more probes of 500 ms each lie between the first missed cycle and the third
        apart = death.payload.timestamp - turned.payload.timestamp
        assert 800 < apart < 4000, f"DDEATH {apart} ms after the first missed cycle"
        expect(node.count("DDEATH", since), 1, "DDEATHs")
    with check("a silent device: its neighbour on the link goes on"):
        bench.floor.set_tag("press", "live/f32", "4110 0000")
        node.wait_data("press", "live/f32", lambda metric: metric.float_value == 9.0, since)
    with check("it answers again: DBIRTH with good values, what changed meanwhile included"):
        silent_for = node.mark()
        bench.floor.set_tag("oven", "live/i16", "FF9C")
        bench.floor.answer_again("oven")
        check_good_birth(node.wait("DBIRTH", "oven", silent_for), "oven", {"live/i16": 0xFFFFFF9C})
        births.check_absent(node.wait("DBIRTH", "oven", silent_for))
        expect(node.count("NBIRTH", since) + node.count("NDEATH", since), 0, "births and deaths of the node")
        gateway.must_run()


def check_good_birth(birth, device, changed):
    births.check_shape(birth, device)
    births.check_properties(birth, device)
    for name, raw in changed.items():
        expect(raw_value(birth.metric(name))[1], raw, name)


def disconnection(bench, gateway, node):
    check = bench.report.check
    since = node.mark()
    bench.floor.stop_tcp()
    with check("a server that is gone: its tags are null with Quality 0, bad:not_connected"):
        for device in ("press", "oven"):
            wanted = {tag.name: (BAD, "bad:not_connected", True) for tag in image.of_device(device)}
            wait_qualities(node, device, since, wanted)
    with check("a server that is gone: DDEATH of each device behind it, the serial line goes on"):
        for device in ("press", "oven"):
            node.wait("DDEATH", device, since)
        bench.floor.set_tag("drive", "live/u16", "0003")
        node.wait_data("drive", "live/u16", lambda metric: metric.int_value == 3, since)
        expect(node.count("DDEATH", since), 2, "DDEATHs")
    bench.floor.start_tcp()
    with check("a server that is back: DBIRTH with good values within 12 s"):
        back = node.mark()
        started = time.monotonic()
        for device in ("press", "oven"):
            birth = node.wait("DBIRTH", device, since, timeout=12 - (time.monotonic() - started))
            check_good_birth(birth, device, {})
        expect(node.count("NBIRTH", back) + node.count("NDEATH", back), 0, "births and deaths of the node")
        gateway.must_run()


def broker_restart(bench, gateway, node):
    with bench.report.check("the broker restarts: births with a later bdSeq and the newest values, the gateway goes on"):
        bd_seq, since = node.messages()[0].bd_seq(), node.mark()
        bench.broker.stop()
        try:
            gateway.wait_log("no connection to the broker")
            bench.floor.set_tag("press", "live/f32", "4120 0000")
        finally:
            bench.broker.start()
        again = node.wait_births(image.DEVICES, since, timeout=15)
        # attempts that the closed port refused may have used up numbers
        expect(1 <= (again[""].bd_seq() - bd_seq) % 256 <= 20, True, f"bdSeq {again[''].bd_seq()} after {bd_seq}")
        is_told = again["press"].metric("live/f32").float_value == 10.0
        if not is_told:  # then the change came after the births
            node.wait_data("press", "live/f32", lambda metric: metric.float_value == 10.0, since)
        gateway.must_run()


def end(bench, gateway, node):
    check = bench.report.check
    with check("SIGTERM: NDEATH of this session at QoS 1, nothing after it, exit code 0"):
        bd_seq, since = last_bd_seq(node), node.mark()
        expect(gateway.terminate(), 0, "exit code")
        death = node.wait("NDEATH", since=since)
        expect((death.bd_seq(), death.qos, death.retain), (bd_seq, 1, False), "bdSeq, QoS and retain of NDEATH")
        expect(node.messages()[-1].kind, "NDEATH", "the last message")
    with check("started again: the next bdSeq"):
        since = node.mark()
        gateway.start()
        node.wait_births(image.DEVICES, since, timeout=15)
        expect(node.wait("NBIRTH", since=since).bd_seq(), (bd_seq + 1) % 256, "bdSeq")
    with check("kill -9: the will says NDEATH with the bdSeq of the birth"):
        bd_seq, since = last_bd_seq(node), node.mark()
        gateway.process.send_signal(signal.SIGKILL)
        gateway.process.wait(5)
        death = node.wait("NDEATH", since=since)
        expect((death.bd_seq(), death.qos, death.retain), (bd_seq, 1, False), "bdSeq, QoS and retain of NDEATH")


def last_bd_seq(node):
    return [message for message in node.messages() if message.kind == "NBIRTH"][-1].bd_seq()
