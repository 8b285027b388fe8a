//! Folders that are not what they should be, and what is told of them. None of it needs rights.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::fs::{self, File};
use std::path::Path;

use portolan_ebpf::hooks::{AttachError, Cgroup};
use portolan_ebpf::pins::{PinError, Pins, look};

fn told<T>(result: Result<T, impl std::fmt::Display>) -> String {
    result.err().map(|error| error.to_string()).expect("an error")
}

/// Pins elsewhere than on a BPF file system would not be pins; nothing is made there.
#[test]
fn pins_are_on_a_bpf_file_system_only() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("portolan"), folder.path().join("a/b/c")] {
        let error = Pins::open(&path).expect_err("a folder of another file system");
        assert!(matches!(&error, PinError::NotBpffs { path: named } if *named == path), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!(
                "{} is not on a BPF file system: mount one (mount -t bpf bpf /sys/fs/bpf), or name another folder as `agent.pins`",
                path.display()
            )
        );
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is made");
}

#[test]
fn where_nothing_is_pinned_nothing_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("portolan");
    assert!(Pins::find(&missing).unwrap().is_none());
    assert!(!missing.exists());
    assert_eq!((look(&missing), look(folder.path())), (vec![], vec![]));
}

#[test]
fn what_others_made_is_left_alone() {
    for (entry, expected) in [
        ("v3", "v3 is of a newer agent (ABI 3, this one has 2): start that one"),
        ("cilium", "cilium was not made by Portolan and is left alone: remove it"),
        ("v0", "v0 was not made by Portolan"),
        ("vip", "vip was not made by Portolan"),
        ("v01", "v01 was not made by Portolan"),
        ("v2/maps", "v2/maps was not made by Portolan"),
        ("v2/links/connect5", "v2/links/connect5 was not made by Portolan"),
        ("v2/sessions/vips", "v2/sessions/vips was not made by Portolan"),
        ("v1/maps", "v1/maps was not made by Portolan"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join(entry)).unwrap();
        let told = told(Pins::find(folder.path()));
        assert!(told.starts_with(&format!("{}/{expected}", folder.path().display())), "{entry}: {told}");
        assert!(folder.path().join(entry).exists());
    }
}

#[test]
fn two_agents_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let other = File::open(folder.path()).unwrap();
    other.lock().unwrap();
    assert_eq!(
        told(Pins::find(folder.path())),
        format!(
            "another agent uses {}: end it first, or give this one other `agent.pins`",
            folder.path().display()
        )
    );
}

#[test]
fn cgroups_are_of_version_2() {
    let folder = tempfile::tempdir().unwrap();
    let error = Cgroup::open(Some(folder.path())).expect_err("a plain folder");
    assert!(matches!(error, AttachError::NotCgroup2 { .. }), "{error:?}");
    let told = error.to_string();
    let begins = format!("{} is no cgroup of version 2; cgroup2 is mounted at ", folder.path().display());
    assert!(told.starts_with(&begins) && told.len() > begins.len(), "{told}");

    let missing = folder.path().join("kubepods");
    let error = Cgroup::open(Some(&missing)).expect_err("no folder");
    assert!(matches!(error, AttachError::NoCgroup { .. }), "{error:?}");
    let told = error.to_string();
    let begins = format!("cgroup {} can't be opened: No such file or directory", missing.display());
    assert!(told.starts_with(&begins) && told.contains("; cgroup2 is mounted at "), "{told}");

    let error =
        Cgroup::open(Some(Path::new("/proc/self/mounts"))).expect_err("a file of another file system");
    assert!(matches!(error, AttachError::NotCgroup2 { .. }), "{error:?}");
}
