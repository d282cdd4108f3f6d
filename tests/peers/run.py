"""Runs the gateway between devices, a broker and decoders that others have written.

    python tests/peers/run.py --tidegate target/debug/tidegate

Uses the loopback interface only. Exit code 0 if every check has passed.
"""

import argparse
import importlib
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

from report import Report

HERE = Path(__file__).parent
PYTHON_PEERS = ("pymodbus", "dlt645", "serial", "paho.mqtt.client", "pysparkplug", "google.protobuf", "jsonschema")


def main():
    parser = argparse.ArgumentParser(description="Third-party tests of tidegate.")
    parser.add_argument("--tidegate", type=Path, required=True, help="the program under test")
    parser.add_argument(
        "--peers",
        type=Path,
        default=Path(sys.prefix).parent,
        help="folder with spb-wrapper/ and node_modules/ (default: the one in which this Python's environment lies)",
    )
    parser.add_argument("--host", type=Path, help="the host application of tests/host (default: in PEERS/host-target)")
    arguments = parser.parse_args()
    report = Report()
    wrapper_python = arguments.peers / "spb-wrapper" / "bin" / "python"
    node_modules = arguments.peers / "node_modules"
    host = arguments.host or arguments.peers / "host-target" / "debug" / "host"
    check_peers(report, arguments.tidegate, wrapper_python, node_modules, host)
    if report.failed == 0:
        for wanted in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(wanted, lambda number, _frame: sys.exit(128 + number))  # so that everything is taken down
        run(report, arguments.tidegate.resolve(), wrapper_python, node_modules, host.resolve())
    return report.summary()


def check_peers(report, tidegate, wrapper_python, node_modules, host):
    """All peers are there, or it is said which are missing and how to get them."""
    with report.check("peer: tidegate"):
        assert tidegate.is_file(), f"{tidegate} is missing: cargo build"
    for name in PYTHON_PEERS:
        with report.check(f"peer: {name}"):
            try:
                importlib.import_module(name)
            except ImportError as error:
                raise AssertionError(f"{error}: pip install -r {HERE / 'requirements.txt'}") from None
    with report.check("peer: mqtt-spb-wrapper"):
        found = list(wrapper_python.parent.parent.glob("lib/python3*/site-packages/mqtt_spb_wrapper"))
        wanted = HERE / "requirements-spb-wrapper.txt"
        folder = wrapper_python.parent.parent
        assert found, f"python3 -m venv {folder}; {folder}/bin/pip install -r {wanted}"
    with report.check("peer: sparkplug-payload"):
        found = (node_modules / "sparkplug-payload").is_dir()
        assert found, f"copy package.json and package-lock.json to {node_modules.parent} and run npm ci there"
    with report.check("peer: srad"):
        wanted = HERE.parent / "host" / "Cargo.toml"
        assert host.is_file(), f"cargo build --locked --manifest-path {wanted} --target-dir {host.parent.parent}"
    for program, package in (("mosquitto", "mosquitto"), ("mosquitto_passwd", "mosquitto"), ("node", "nodejs")):
        with report.check(f"peer: {program}"):
            path = ":".join(("/usr/local/sbin", "/usr/sbin"))
            assert shutil.which(program) or shutil.which(program, path=path), f"install the Debian package {package}"


def run(report, tidegate, wrapper_python, node_modules, host):
    # these import the peers
    import access
    import decoders
    import forms
    import host as hosts
    import life
    import meters
    import namespace
    from bench import Bench

    with report.check("broker, devices and decoders stand"):
        readers = partial(decoders.all_of, wrapper_python, shutil.which("node"), node_modules)
        bench = Bench(report, tidegate, readers, host)
    if report.failed:
        return
    try:
        for scenario in (life, forms, namespace, access, meters, hosts):
            with report.check(f"scenario {scenario.__name__} ran to its end"):
                bench.floor.restore()
                scenario.run(bench)
    finally:
        bench.close()


if __name__ == "__main__":
    sys.exit(main())
