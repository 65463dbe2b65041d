//! Small and read-only disks for tests, where the system lets us mount them.

#![allow(dead_code)]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A tmpfs that is unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Mount {
    dir: tempfile::TempDir,
}

impl Mount {
    /// A tmpfs of `size` (as `mount` spells it); `None`, said loudly, where mounting is refused.
    pub(crate) fn tmpfs(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        if mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], dir.path()) {
            return Some(Self { dir });
        }
        eprintln!("SKIPPED: this test needs to mount a tmpfs, which is refused here (not root?)");
        None
    }

    /// Makes it read-only.
    pub(crate) fn make_read_only(&self) {
        assert!(mount(&["-o", "remount,ro"], self.dir.path()));
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(self.dir.path()).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!("cannot unmount {}", self.dir.path().display());
        }
    }
}

fn mount(args: &[&str], at: &Path) -> bool {
    let output = Command::new("mount").args(args).arg(at).output();
    output.is_ok_and(|output| output.status.success())
}
