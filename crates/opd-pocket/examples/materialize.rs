//! Writes the bundled job: `cargo run --release -p opd-pocket --example materialize -- DIR`.

use std::{env, error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = env::args_os().nth(1).ok_or("usage: materialize DIR")?;
    let layout = opd_pocket::materialize(Path::new(&dir))?;
    println!("{layout:#?}");
    Ok(())
}
