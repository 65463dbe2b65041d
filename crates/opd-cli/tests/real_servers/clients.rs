use std::{path::Path, process::Command};

use crate::server::{KEY, Served, Server, python, script};

/// SGLang's own client and slime's request get from `opd serve` what they get from SGLang.
pub(crate) fn read_the_same_from_opd_serve(server: &Server, model: &Path) {
    let ours = Served::start(model);
    let ran = Command::new(python())
        .arg(script("clients.py"))
        .args([&server.url(), &ours.url, KEY])
        .env("CUDA_VISIBLE_DEVICES", "")
        .output()
        .unwrap();
    eprint!("{}", String::from_utf8_lossy(&ran.stdout));
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}
