use std::{
    io::{Write, stderr},
    path::{Path, PathBuf},
    process::Command,
};

/// A small disk, where the system lets us mount one; unmounted when dropped.
#[derive(Debug)]
pub struct Mount {
    dir: tempfile::TempDir,
}

impl Mount {
    /// A tmpfs of `size` (as `mount` spells it); `None`, said loudly, where mounting is refused.
    ///
    /// # Panics
    ///
    /// If no temporary directory can be made.
    pub fn tmpfs(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        if mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], dir.path()) {
            return Some(Self { dir });
        }
        skipped("it needs to mount a tmpfs, which is refused here (not root?)");
        None
    }

    /// Makes it read-only.
    ///
    /// # Panics
    ///
    /// If the system refuses.
    pub fn make_read_only(&self) {
        assert!(mount(&["-o", "remount,ro"], self.dir.path()));
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
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

/// Says that a test does not run, even where the output of tests that pass is not shown.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Not `eprintln!`, which the harness captures.
    let _ = writeln!(stderr(), "SKIPPED {test}: {why}");
}

fn mount(args: &[&str], at: &Path) -> bool {
    let output = Command::new("mount").args(args).arg(at).output();
    output.is_ok_and(|output| output.status.success())
}
