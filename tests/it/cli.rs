//! The commands as a person types them.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};

use crate::{files, root};

fn tidegate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate")).args(arguments).current_dir(root()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_fine_configuration_is_said_to_be_fine() {
    let output = tidegate(&["check", "configs/demo.toml"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), "configs/demo.toml: fine: 8 devices, 66 tags on 4 links, 1 uplinks\n");
}

#[test]
fn findings_have_their_place_and_exit_code_2() {
    let output = tidegate(&["check", "tests/it/findings/wide.toml"]);
    assert_eq!(output.status.code(), Some(2));
    let text = stdout(&output);
    assert!(text.starts_with("tests/it/findings/wide.toml:2:8: `name`: wanted a name"), "{text}");
    assert!(stderr(&output).contains("2 findings"));
    let output = tidegate(&["check", "--format", "json", "tests/it/findings/wide.toml"]);
    assert_eq!(output.status.code(), Some(2));
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(json["findings"][1]["line"], 11);
    assert_eq!(json["findings"][1]["column"], 50);
    assert_eq!(json["findings"][1]["help"], "did you mean `unit`?");
}

#[test]
fn what_may_be_meant_so_and_is_odd_is_remarked_upon_and_fine() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    let check = |latch: &str, enabled: bool, serial: &str| {
        let text = format!(
            "[gateway]\nname = 'n'\nenterprise = 'e'\n[uplink.u]\nbroker = 'mqtt://127.0.0.1'\n\
             [commands]\nenabled = {enabled}\n[link.l]\nport = '/dev/ttyS9'\nserial = '{serial}'\n\
             [type.oven]\nfactory = '9600 8N1'\ntags = [{{ name = 't', at = 'hr:0' }}]\n\
             [device.d]\nlink = 'l'\ntype = 'oven'\nalarm = {{ hot = {{ when = 't', above = 5, latch = {latch} }} }}\n"
        );
        std::fs::write(&path, text).unwrap();
        let output = tidegate(&["check", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
        stderr(&output)
    };
    assert_eq!(check("true", true, "9600 8N1"), "");
    assert_eq!(check("false", false, "9600 8N1"), "");
    assert!(
        check("true", false, "9600 8N1").contains("device `d`, alarm `hot`: latch = true keeps it active")
    );
    assert!(
        check("false", false, "19200 8E1")
            .contains("other settings than it leaves the factory with (9600 8N1)")
    );
}

/// A site with a device of each type that we ship, each on a line of its own.
/// What a device must say beside its type.
fn of_its_own(name: &str) -> &'static str {
    match name {
        "siemens-s7-200" | "siemens-s7-200-smart" => {
            "tags = [{ name = 'q', at = 'Q0.3' }, { name = 'v', at = 'VW100' }, { name = 'a', at = 'AIW2' }]"
        }
        "mitsubishi-fx3u" | "inovance-h5u-easy" | "xinje-xc" | "xinje-xd-xl" => {
            "tags = [{ name = 'd', at = 'D100' }, { name = 'x', at = 'X17' }, { name = 'm', at = 'M13' }]"
        }
        "delta-dvp" => "tags = [{ name = 'd', at = 'D4096' }, { name = 'c', at = 'C200', type = 'u32' }]",
        "advantech-adam-4000" => "tags = [{ name = 'in', at = 'DI3' }, { name = 'a', at = 'AI7' }]",
        _ => match name.split('-').next().unwrap() {
            "dlt645" | "cjt188" => "address = '210220003011'",
            "huanyang" | "mewtocol" | "hostlink" => "unit = 1",
            _ => "",
        },
    }
}

/// What is written of each type: the keys of `[type.NAME]`, and its protocol where it is like another one.
fn keys_of_types(texts: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut types: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut at = None;
    for line in texts.lines() {
        if let Some(head) = line.strip_prefix('[') {
            let name = head.strip_prefix("type.").and_then(|head| Some(head.split_once(']')?.0));
            at = name.filter(|name| !name.contains('.')).map(str::to_owned);
        } else if let (Some(name), Some((key, value))) = (&at, line.split_once('='))
            && !line.starts_with(' ')
        {
            types.entry(name.clone()).or_default().insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    for name in types.keys().cloned().collect::<Vec<_>>() {
        let like = types[&name].get("like").map(|like| like.trim_matches('"').to_owned());
        for (key, value) in like.map(|like| types[&like].clone()).unwrap_or_default() {
            types.get_mut(&name).unwrap().entry(key).or_insert(value);
        }
    }
    types
}

#[test]
fn each_type_that_we_ship_says_where_it_is_from_and_how_it_is_known_again() {
    let texts = files(&root().join("configs/types"), "toml");
    let texts: String = texts.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert!(!texts.contains("write ="), "a device says what may be written, no type");
    let mut faults = Vec::new();
    for (name, keys) in keys_of_types(&texts) {
        let has = |key: &str| keys.contains_key(key);
        if !has("title") || !has("confidence") {
            faults.push(format!("{name} has no title or no confidence"));
        }
        if !has("source") && name != "barcode-reader" {
            faults.push(format!("{name} has no source")); // readers of any make send lines
        }
        let probe = keys.get("probe").map(|probe| probe.starts_with(['{', '[']));
        let is_explained = keys.get("note").is_some_and(|note| note.contains("probe: "));
        let is_instrument = keys["protocol"].starts_with("\"serial\"");
        if is_instrument != probe.is_none() || (probe == Some(false)) != is_explained {
            faults.push(format!("{name}: a probe, or \"none\" and a note that says why"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn each_type_that_we_ship_is_fine_and_does_what_its_manual_prints() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("types")).unwrap();
    let mut names = Vec::new();
    for path in files(&root().join("configs/types"), "toml") {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = |line: &str| Some(line.strip_prefix("[type.")?.split_once(']')?.0.to_owned());
        names.extend(text.lines().filter_map(name).filter(|name| !name.contains('.')));
        std::fs::write(folder.path().join("types").join(path.file_name().unwrap()), text).unwrap();
    }
    assert!(names.len() >= 46, "{names:?}");
    let mut site =
        "[gateway]\nname = 'n'\nenterprise = 'e'\n[uplink.u]\nbroker = 'mqtt://127.0.0.1'\n".to_owned();
    for (number, name) in names.iter().enumerate() {
        site += &format!(
            "[link.l{number}]\nport = '/dev/ttyS{number}'\nserial = '9600 8N1'\n\
             [device.d{number}]\nlink = 'l{number}'\ntype = '{name}'\n{}\n",
            of_its_own(name)
        );
    }
    std::fs::write(folder.path().join("gateway.toml"), site).unwrap();
    let path = folder.path().to_str().unwrap();
    let output = tidegate(&["check", path]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).contains(&format!("{} devices", names.len())), "{}", stdout(&output));
    // a type that does something else is found out
    let scales = folder.path().join("types/scales.toml");
    let text = std::fs::read_to_string(&scales).unwrap();
    std::fs::write(&scales, text.replace("weight = 20.00", "weight = 20.01")).unwrap();
    let output = tidegate(&["check", path]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("weight = 20, and not 20.01"), "{}", stderr(&output));
}

#[test]
fn a_file_that_is_not_there_is_a_finding() {
    let output = tidegate(&["check", "nowhere.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stdout(&output).starts_with("nowhere.toml: cannot be read: "));
}

#[test]
fn a_folder_is_read_in_name_order_with_its_types_and_a_key_set_twice_names_both_places() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "10-gateway.toml",
        "[gateway]\nname = 'n'\nenterprise = 'e'\n[uplink.u]\nbroker = 'mqtt://127.0.0.1'\n",
    );
    write("20-line.toml", "[link.l]\ntcp = '127.0.0.1:502'\n[device.d]\nlink = 'l'\ntype = 'oven'\n");
    std::fs::create_dir(folder.path().join("types")).unwrap();
    write("types/oven.toml", "[type.oven]\nprotocol = 'modbus'\ntags = [{ name = 't', at = 'hr:0' }]\n");
    let path = folder.path().to_str().unwrap();
    let output = tidegate(&["check", path]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    write("30-again.toml", "[gateway]\nname = 'm'\n");
    let output = tidegate(&["check", path]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stdout(&output).contains("30-again.toml:2:1: `name` is set twice: first at "),
        "{}",
        stdout(&output)
    );
}

#[test]
fn a_secret_never_stands_in_a_finding() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    std::fs::write(
        &path,
        "[gateway]\nname = 'n'\nenterprise = 'e'\n[uplink.u]\nbroker = 'mqtt://127.0.0.1'\npassword = 4711\n",
    )
    .unwrap();
    for format in ["json", "text"] {
        let output = tidegate(&["check", "--format", format, path.to_str().unwrap()]);
        assert!(stdout(&output).contains("wanted text in quotes"));
        assert!(!stdout(&output).contains("4711"), "{}", stdout(&output));
    }
}

#[test]
fn run_starts_nothing_with_a_bad_configuration() {
    let output = tidegate(&["run", "--config", "tests/it/findings/wide.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("nothing was started"));
}

#[test]
fn what_is_not_built_yet_is_refused_by_name_and_what_is_unknown_is_a_usage_error() {
    let output = tidegate(&["fleet", "--broker", "mqtt://127.0.0.1"]);
    assert_eq!(
        (output.status.code(), stderr(&output).as_str()),
        (Some(2), "tidegate: `tidegate fleet` is not in this version\n")
    );
    assert_eq!(tidegate(&["chekc"]).status.code(), Some(2));
    assert_eq!(tidegate(&[]).status.code(), Some(2));
    assert_eq!(tidegate(&["--version"]).status.code(), Some(0));
}

#[test]
fn the_demo_compares_every_value_and_finds_no_mismatch() {
    let output = tidegate(&["demo", "--seconds", "6"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    for expected in [
        "devices     8 (balance, drive, incomer, meter, oven, press, reader, scale)",
        "tags        63",
        "mismatches  0",
        "missing     0",
        "press/temperature",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    for nothing in [": 0 in motion", " 0 overloads", " 0 events"] {
        assert!(!text.contains(nothing), "{text}");
    }
    let table = text.lines().filter(|line| line.ends_with(" s") || line.starts_with("TAG"));
    let widest = table.map(|line| line.chars().count()).max();
    assert!((60..=80).contains(&widest.unwrap()), "{widest:?}");
}

#[test]
fn the_demo_finds_no_mismatch_either_where_devices_misbehave() {
    let output = tidegate(&["demo", "--faults", "--seconds", "8"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    for expected in
        ["tags        63", "mismatches  0", "faults      ", "busy ", "flipped bit ", "late ", "split "]
    {
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn the_demo_with_a_wrong_byte_order_finds_the_mismatches() {
    let right = std::fs::read_to_string(root().join("configs/demo.toml")).unwrap();
    let wrong = right.replacen("order = \"CDAB\", unit = \"mm\"", "order = \"ABCD\", unit = \"mm\"", 1);
    assert_ne!(right, wrong);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.toml");
    std::fs::write(&path, wrong).unwrap();
    for faults in [None, Some("--faults")] {
        let arguments = ["demo", "--seconds", "3", "--config", path.to_str().unwrap()];
        let output = tidegate(&arguments.into_iter().chain(faults).collect::<Vec<_>>());
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("press/position: served "), "{text}");
        assert!(!text.contains("mismatches  0\n"), "{text}");
        assert!(stderr(&output).contains("values came back that were not served so"));
    }
}

#[test]
fn the_demo_finds_a_weight_that_is_told_as_settled_while_it_moves() {
    let right = std::fs::read_to_string(root().join("configs/demo.toml")).unwrap();
    let wrong = right.replacen("D = \"uncertain:not_accurate moving\"", "D = \"good\"", 1);
    assert_ne!(right, wrong);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.toml");
    std::fs::write(&path, wrong).unwrap();
    let output = tidegate(&["demo", "--seconds", "4", "--config", path.to_str().unwrap()]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("balance/weight: served "), "{text}");
    assert!(text.contains(", not settled, at "), "{text}");
}

#[test]
fn a_type_of_ones_own_wins_whole_over_that_of_a_library_and_a_library_holds_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("types")).unwrap();
    write("types/meter.toml", "[type.meter]\nbase = 1\ntags = [{ name = 'old', at = 'hr:500' }]\n");
    write(
        "gateway.toml",
        "[gateway]\nname = 'n'\nenterprise = 'e'\n[uplink.u]\nbroker = 'mqtt://127.0.0.1'\n[link.l]\ntcp = '127.0.0.1:502'\n\
         [device.d]\nlink = 'l'\ntype = 'meter'\n[type.meter]\ntags = [{ name = 'power', at = 'hr:100' }]\n",
    );
    let path = folder.path().join("gateway.toml");
    let output = tidegate(&["check", path.to_str().unwrap()]);
    assert!(stdout(&output).contains("fine: 1 devices, 1 tags"), "{}", stdout(&output));
    write("types/more.toml", "[device.d]\nunit = 2\n");
    let output = tidegate(&["check", path.to_str().unwrap()]);
    assert!(
        stdout(&output).contains("a device library holds types only, not `device`"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn an_environment_that_is_no_text_harms_nothing() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["check", "configs/demo.toml"]).current_dir(root());
    let output = command.env("FOO", std::ffi::OsStr::from_bytes(b"\xFF")).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn simulate_serves_what_a_configuration_reads_and_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    let tag = "{ name = 't', at = 'hr:7', kind = 'info', range = [10, 20] }";
    let text = format!(
        "[gateway]\nname = 'n'\nenterprise = 'e'\n[uplink.u]\nbroker = 'mqtt://127.0.0.1'\n\
         [link.plc-1]\ntcp = '192.168.1.20:1'\n[device.d]\nlink = 'plc-1'\nunit = 3\ntags = [{tag}]\n"
    );
    std::fs::write(&path, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["simulate", path.to_str().unwrap(), "--seconds", "60"]).stdout(Stdio::piped());
    let mut simulator = command.spawn().unwrap();
    let lines = BufReader::new(simulator.stdout.take().unwrap()).lines().map(Result::unwrap);
    let variable = "TIDEGATE__LINK__PLC_1__TCP=";
    let mut addresses = lines.filter_map(|line| line.strip_prefix(variable).map(str::to_owned));
    let mut stream = TcpStream::connect(addresses.next().unwrap()).unwrap();
    // read register 7 of unit 3: it holds the middle of its range
    stream.write_all(&[0, 9, 0, 0, 0, 6, 3, 3, 0, 7, 0, 1]).unwrap();
    let mut answer = [0; 11];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0, 9, 0, 0, 0, 5, 3, 3, 2, 0, 15]);
    let killed = Command::new("kill").arg(simulator.id().to_string()).status().unwrap();
    assert!(killed.success());
    assert_eq!(simulator.wait().unwrap().code(), Some(0));
}

#[test]
fn simulate_names_lines_units_and_faults_and_refuses_what_it_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("lines");
    let lines = lines.to_str().unwrap();
    let output = tidegate(&[
        "simulate",
        "configs/injection-moulding.toml",
        "--seconds",
        "1",
        "--faults",
        "--folder",
        lines,
    ]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    assert!(text.contains(&format!("TIDEGATE__LINK__LINE2__PORT={lines}/line2\n")), "{text}");
    assert!(text.contains("6 devices, ") && text.ends_with("0 values served, faults: 0\n"), "{text}");
    assert_eq!(std::fs::read_dir(lines).unwrap().count(), 0, "the links are gone");

    let arguments = ["simulate", "configs/machining.toml", "--seconds", "1", "--dial", "dtu=127.0.0.1:9"];
    let output = tidegate(&arguments);
    assert!(stdout(&output).contains("dtu: mill-1 dials 127.0.0.1:9 as \"DTU-10000003\"\n"));
    let output = tidegate(&["simulate", "configs/machining.toml", "--registration", "dtu=REG{id}"]);
    assert_eq!(output.status.code(), Some(1), "nobody can be served");
    assert!(stderr(&output).contains("link `dtu` is not served: lathe-1: "), "{}", stderr(&output));
    let output = tidegate(&["simulate", "configs/machining.toml", "--dial", "dut=127.0.0.1:9"]);
    assert_eq!((output.status.code(), &*stderr(&output)), (Some(2), "tidegate: there is no link `dut`\n"));
    let output = tidegate(&["simulate", "tests/it/findings/wide.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("2 findings"));
}
