//! The Sparkplug types in the tree are those of `proto/sparkplug_b.proto`.

use crate::root;

#[test]
fn the_types_in_the_tree_are_those_of_the_proto_file() {
    let folder = tempfile::tempdir().unwrap();
    let descriptors = protox::compile(["sparkplug_b.proto"], [root().join("proto")]).unwrap();
    prost_build::Config::new().out_dir(folder.path()).compile_fds(descriptors).unwrap();
    let made = std::fs::read_to_string(folder.path().join("org.eclipse.tahu.protobuf.rs")).unwrap();
    let path = root().join("src/sparkplug/proto.rs");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    assert!(made == kept, "src/sparkplug/proto.rs is out of date: run this test with UPDATE=1");
}
