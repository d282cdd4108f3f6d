//! `tidegate scan` on lines and ports with simulated devices: what it prints is a configuration that a gateway runs on.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tidegate::driver::modbus::frame;
use tidegate::sparkplug::proto::Payload;
use tidegate::tag::UnitId;
use tokio::task::JoinSet;

use crate::gateway::{Consumer, Gateway, free_address, metric, serve_broker};
use crate::root;

const HEAD: &str = "[gateway]\nname = 'n'\nenterprise = 'e'\n[uplink.u]\nbroker = 'mqtt://127.0.0.1'\n";

/// A folder with the device types that we ship, and simulated devices.
struct Site {
    folder: TempDir,
    simulator: Child,
}

impl Site {
    fn serve(devices: &str) -> Site {
        let folder = tempfile::tempdir().unwrap();
        symlink(root().join("configs/types"), folder.path().join("types")).unwrap();
        let path = folder.path().join("site.toml");
        std::fs::write(&path, format!("{HEAD}{devices}")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.arg("simulate").arg(&path).arg("--folder").arg(folder.path().join("lines"));
        let mut simulator = command.args(["--seconds", "120"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(simulator.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.contains("Ctrl-C ends it")), "it serves");
        Site { folder, simulator }
    }

    fn line(&self, name: &str) -> PathBuf {
        self.folder.path().join("lines").join(name)
    }

    fn scan(&self, link: &Path, more: &[&str]) -> Output {
        scan(&self.folder.path().join("gateway.toml"), link.to_str().unwrap(), more)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.simulator.kill().ok();
        self.simulator.wait().ok();
    }
}

fn scan(config: &Path, link: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["scan", link, "--config"]).arg(config).args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn three_units_and_a_meter_with_different_settings_are_found_and_the_fragment_runs() {
    let site = Site::serve(
        "[link.line]\nport = '/dev/ttyS8'\nserial = '9600 8N1'\n\
         [device.supply]\nlink = 'line'\nunit = 2\ntype = 'eastron-sdm630'\n\
         [device.drive]\nlink = 'line'\nunit = 1\nserial = '19200 8N1'\ntype = 'inovance-md'\n\
         [device.press]\nlink = 'line'\nunit = 3\nserial = '38400 8N1'\n\
         tags = [{ name = 'pressure', at = 'hr:0', type = 'u16', range = [70, 90] }]\n\
         [device.meter]\nlink = 'line'\naddress = '210220003011'\nserial = '2400 8E1'\ntype = 'dlt645-2007-1ph'\n",
    );
    let manners = ["9600 8N1", "19200 8N1", "38400 8N1", "2400 8E1"];
    let serial = manners.iter().flat_map(|line| ["--serial", line]);
    let more: Vec<&str> = serial.chain(["--units", "1-3"]).collect();
    let line = site.line("line");
    let output = site.scan(&line, &more);
    let (fragment, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}");
    for told in [
        "9600 8N1: unit 2 answers Modbus: eastron-sdm630\n",
        "19200 8N1: unit 1 answers Modbus: inovance-md\n",
        "38400 8N1: unit 3 answers Modbus: of no known type\n",
        "2400 8E1: meter 210220003011 answers DL/T 645: dlt645-2007-1ph\n",
    ] {
        assert!(said.contains(told), "{told}\n{said}");
    }
    let mut tasks = JoinSet::new();
    let broker = free_address().await;
    serve_broker(broker, &mut tasks).await;
    let mut host = Consumer::subscribe(broker).await;
    let folder = tempfile::tempdir().unwrap();
    symlink(root().join("configs/types"), folder.path().join("types")).unwrap();
    let uplink = format!("[uplink.u]\nbroker = \"mqtt://{broker}\"\nbirth_jitter = \"0s\"\n");
    let _gateway = Gateway::start(folder.path(), &format!("{uplink}{fragment}"));
    let missing = RefCell::new(vec![
        ("eastron-sdm630-2", "voltage/l1"),
        ("inovance-md-1", "state"),
        ("unit-3", "hr0"),
        ("meter-210220003011", "voltage"),
    ]);
    let has =
        |payload: &Payload, tag: &str| metric(payload, tag).is_some_and(|metric| metric.value.is_some());
    let has_told_all = |topic: &str, payload: &Payload| {
        missing.borrow_mut().retain(|(device, tag)| !(topic.ends_with(device) && has(payload, tag)));
        missing.borrow().is_empty()
    };
    host.wait_for_any(has_told_all).await;
}

#[test]
fn a_scale_that_talks_by_itself_is_found_by_listening() {
    let site = Site::serve(
        "[link.scale]\nport = '/dev/ttyS8'\nserial = '1200 8N1'\n[device.scale]\nlink = 'scale'\ntype = 'yaohua-xk3190'\n",
    );
    let output =
        site.scan(&site.line("scale"), &["--serial", "9600 8N1", "--serial", "1200 8N1", "--units", "1"]);
    let fragment = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(
        fragment.contains("[device.yaohua-xk3190]\nlink = \"line1\"\ntype = \"yaohua-xk3190\""),
        "{fragment}"
    );
    assert!(fragment.contains("serial = \"1200 8N1\""), "{fragment}");
}

#[test]
fn an_instrument_that_is_asked_is_found_at_the_settings_with_which_it_leaves_the_factory() {
    let site = Site::serve(
        "[link.press]\nport = '/dev/ttyS8'\nserial = '9600 8N1'\n[device.drive]\nlink = 'press'\nunit = 1\ntype = 'huanyang-hy'\n",
    );
    let output = site.scan(&site.line("press"), &["--serial", "9600 8N1", "--units", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("unit = 1\ntype = \"huanyang-hy\""), "{}", text(&output.stdout));
}

#[test]
fn a_host_is_searched_as_well_and_a_configured_link_by_its_name() {
    let site = Site::serve(
        "[link.plc]\ntcp = '192.168.1.20:502'\n\
         [device.supply]\nlink = 'plc'\nunit = 3\ntype = 'eastron-sdm630'\n\
         [link.line]\nport = '/dev/ttyS8'\nserial = '9600 8N1'\n[device.drive]\nlink = 'line'\ntype = 'inovance-md'\n",
    );
    // the line of the configuration is where the simulator has it
    let config = site.folder.path().join("gateway.toml");
    let port = site.line("line").display().to_string();
    std::fs::write(&config, format!("{HEAD}[link.hall]\nport = '{port}'\nserial = '9600 8N1'\n")).unwrap();
    let output = scan(&config, "hall", &["--serial", "9600 8N1", "--units", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let expected =
        "\n\n[device.inovance-md-1]\nlink = \"hall\"\nunit = 1\ntype = \"inovance-md\"    # hr:12288 = ";
    assert!(text(&output.stdout).contains(expected), "{}", text(&output.stdout));
}

/// Hands through a serial line on which units 2 and 3 know the grid's frequency, slowly, and refuse everything else.
#[expect(clippy::disallowed_methods, reason = "a thread of its own, which has no timer to wait on")]
fn slow_line(listener: &TcpListener, hangs_up: bool) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        let mut request = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut request) {
            let Some((unit @ UnitId(2 | 3), asked)) = frame::decode_rtu(&request[..count]) else { continue };
            let [high, low] = if unit.0 == 2 { [0x42, 0x47] } else { [0x42, 0x48] };
            let answer = match asked {
                [4, 0, 0x46, 0, 2] => vec![4, 4, high, low, 0xEB, 0x85],
                [function, ..] => vec![function | 0x80, 2],
                [] => continue,
            };
            std::thread::sleep(Duration::from_millis(250));
            stream.write_all(&frame::encode_rtu(unit, &answer)).unwrap();
            if hangs_up {
                break;
            }
        }
    }
}

#[test]
fn slow_answers_stay_with_their_questions_and_a_server_may_hang_up_behind_each() {
    let site = tempfile::tempdir().unwrap();
    symlink(root().join("configs/types"), site.path().join("types")).unwrap();
    for hangs_up in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || slow_line(&listener, hangs_up));
        let output =
            scan(&site.path().join("gateway.toml"), &address, &["--units", "2-3", "--timeout", "500ms"]);
        let fragment = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        for of in [
            "framing = \"rtu\"\n",
            "unit = 2\ntype = \"eastron-sdm630\"    # ir:70 = 49.98\n",
            "unit = 3\ntype = \"eastron-sdm630\"    # ir:70 = 50.23\n",
        ] {
            assert!(fragment.contains(of), "{of}\n{fragment}{}", text(&output.stderr));
        }
        assert!(!fragment.contains("delta-dt"), "{fragment}");
    }
}

#[test]
fn a_type_that_needs_more_than_a_unit_stops_no_search() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.toml");
    let of_type = "[type.odd]\nprotocol = 'serial'\nsend = \"'@' {station as dec2} 0D\"\n\
         tags = [{ name = 'w', at = 'group:w', type = 'decimal' }]\n[type.odd.frame]\nend = '0D'\npattern = '^(?<w>[0-9]+)$'\n";
    std::fs::write(&config, format!("{HEAD}{of_type}")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let output = scan(&config, &address, &["--units", "1", "--timeout", "20ms"]);
    assert_eq!(output.status.code(), Some(4), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stderr).contains("type `odd` is left out"), "{}", text(&output.stderr));
}

#[test]
fn nobody_there_no_port_and_no_such_link_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.toml");
    let output = scan(&config, "hall", &[]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("`hall` is no link of ") && said.contains("HOST:PORT"), "{said}");
    let output = scan(&config, "/dev/there-is-none", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot open /dev/there-is-none"), "{}", text(&output.stderr));
    let output = scan(&config, "/dev/ttyS0", &["--serial", "9600"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("wanted speed, data bits"), "{}", text(&output.stderr));
    // it takes connections and says nothing
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let output = scan(&config, &address, &["--units", "1", "--timeout", "20ms"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(4), String::new()));
    assert!(text(&output.stderr).contains("0 found with "), "{}", text(&output.stderr));
    std::fs::write(&config, format!("{HEAD}[link.dtu]\nlisten = '127.0.0.1:0'\n")).unwrap();
    let output = scan(&config, "dtu", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("units dial in on `dtu`"), "{}", text(&output.stderr));
}
