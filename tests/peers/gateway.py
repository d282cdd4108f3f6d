"""The gateway under test: its configuration and its process."""

import os
import signal
import subprocess
from pathlib import Path

import image
from report import expect, wait_for

GROUP = "peers"
LINKS = {"press": "plc", "oven": "plc", "drive": "line"}
UNITS = {"press": 1, "oven": 2, "drive": 1}
# above what a busy machine needs to answer, and short enough for three missed cycles in a test
TIMING = 'every = "100ms"\ntimeout = "500ms"\nretries = 1\n'


def config(name, folder, broker_port, modbus_port, serial_port, uplink="", log="info"):
    text = f"""[gateway]
name = "{name}"
enterprise = "{GROUP}"
site = "lab/bench-1"
state_dir = "{folder}/state"

[uplink.broker]
broker = "mqtt://127.0.0.1:{broker_port}"
birth_jitter = "0s"
reconnect_max = "1s"
{uplink}
[log]
level = "{log}"

[status]
listen = "off"

[link.plc]
tcp = "127.0.0.1:{modbus_port}"

[link.line]
port = "{serial_port}"
serial = "115200 8N1"
"""
    for device in image.DEVICES:
        order = 'order = "CDAB"\n' if device == "drive" else ""
        tags = "".join(f'  {{ name = "{tag.name}", {tag.keys} }},\n' for tag in image.of_device(device))
        text += f'\n[device.{device}]\nlink = "{LINKS[device]}"\nunit = {UNITS[device]}\n{TIMING}{order}tags = [\n{tags}]\n'
    return text


class Gateway:
    def __init__(self, binary, folder, text):
        self.binary = str(binary)
        self.folder = Path(folder)
        self.folder.mkdir()
        self.path = self.folder / "gateway.toml"
        self.path.write_text(text)
        self.log_path = self.folder / "tidegate.log"
        self.process = None
        # settings of whoever runs the test must not become settings of the gateway
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("TIDEGATE__")}
        self.environment["RUNTIME_DIRECTORY"] = str(self.folder / "run")  # gone with the folder, though it is killed

    def start(self):
        self.kill()
        checked = subprocess.run([self.binary, "check", self.path], capture_output=True, text=True, env=self.environment)
        expect(checked.returncode, 0, f"exit code of check; it says: {checked.stdout}{checked.stderr}")
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "run", "--config", self.path], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment
            )

    def must_run(self):
        code = self.process.poll()
        assert code is None, f"the gateway has ended with exit code {code}: {self.log()[-500:]}"

    def terminate(self):
        """Asks it to stop; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_log(self, text, count=1, timeout=10.0):
        """Waits until the log has so many lines with `text`."""
        wait_for(lambda: self.log().count(text) >= count, f"{text!r} in the gateway's log, {count} times", timeout)
