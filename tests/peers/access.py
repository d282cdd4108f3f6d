"""Brokers that want a password, and a start with nothing there at all."""

import image
from bench import PASSWORD, USERNAME
from report import expect, wait_for
from wire import check_sequence

WRONG_PASSWORD = "wrong-horse-4402"


def run(bench):
    right_password(bench)
    wrong_password(bench)
    nothing_there(bench)


def login(bench, name, password):
    """The keys of an uplink that logs in."""
    path = bench.folder / f"{name}.password"
    path.write_text(password + "\n")
    path.chmod(0o600)
    return f'username = "{USERNAME}"\npassword_file = "{path}"\n'


def right_password(bench):
    uplink = login(bench, "cell-3", PASSWORD)
    with (
        bench.report.check("the right password: births arrive, the log never has it"),
        bench.gateway("cell-3", bench.locked_port, uplink, log="trace") as (gateway, node),
    ):
        gateway.start()
        node.wait_births(image.DEVICES, timeout=15)
        expect(gateway.terminate(), 0, "exit code")
        node.wait("NDEATH")
        expect(PASSWORD in gateway.log(), False, "the password in the log")


def wrong_password(bench):
    uplink = login(bench, "cell-4", WRONG_PASSWORD)
    with (
        bench.report.check("a wrong password: the gateway keeps trying, says so, and its log never has it"),
        bench.gateway("cell-4", bench.locked_port, uplink, log="trace") as (gateway, node),
    ):
        refusals = bench.broker.log().count("not authorised")
        gateway.start()
        wait_for(lambda: bench.broker.log().count("not authorised") >= refusals + 3, "three refused logins")
        gateway.must_run()
        expect(node.messages(), [], "messages")
        expect(gateway.terminate(), 0, "exit code")
        log = gateway.log()
        expect("no connection to the broker" in log, True, "a word in the log")
        expect(WRONG_PASSWORD in log, False, "the password in the log")


def nothing_there(bench):
    check = bench.report.check
    bench.broker.stop()
    bench.floor.stop_tcp()
    bench.unplug()
    with bench.gateway("cell-5") as (gateway, node):
        with check("nothing there: SIGTERM ends it with exit code 0"):
            gateway.start()
            wait_down(gateway, 1)
            expect(gateway.terminate(), 0, "exit code")
        with check("nothing there: it runs on, without broker and devices"):
            gateway.start()
            wait_down(gateway, 2)
            gateway.must_run()
        bench.broker.start()
        with check("the broker appears: the node is born, devices that have never answered are not"):
            node.wait("NBIRTH", timeout=15)
            expect([message.kind for message in node.messages()], ["NBIRTH"], "messages")
        bench.floor.start_tcp()
        bench.plug_in()
        with check("the devices appear: each is born, with good values"):
            for device in image.DEVICES:
                birth = node.wait("DBIRTH", device, timeout=20)
                values = {metric.name for metric in birth.payload.metrics if not metric.is_null}
                wanted = {tag.name for tag in image.of_device(device) if tag.name != image.ABSENT}
                expect(values, wanted, f"tags of {device} with a value")
            check_sequence(node.messages())
            expect(gateway.terminate(), 0, "exit code")


def wait_down(gateway, times):
    """Until it has found both links and the broker missing."""
    gateway.wait_log("link down", 2 * times)
    gateway.wait_log("no connection to the broker", times)
