//! The commands as a person types them.

use std::process::{Command, Output};

use crate::root;

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
    assert_eq!(stdout(&output), "configs/demo.toml: fine: 5 devices, 60 tags on 2 links, 1 uplinks\n");
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
        "devices     5 (drive, incomer, meter, oven, press)",
        "tags        60",
        "mismatches  0",
        "missing     0",
        "press/temperature",
    ] {
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn the_demo_finds_no_mismatch_either_where_devices_misbehave() {
    let output = tidegate(&["demo", "--faults", "--seconds", "8"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    for expected in
        ["tags        60", "mismatches  0", "faults      ", "busy ", "flipped bit ", "late ", "split "]
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
