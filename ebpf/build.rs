//! Compiles the BPF programs. Needs clang and libbpf's headers; says so when they are missing.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

const SOURCE: &str = "src/bpf/portolan.bpf.c";

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=src/bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    match compile() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn compile() -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).map_err(|_| format!("cargo sets no {name}"));
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let endian = if variable("CARGO_CFG_TARGET_ENDIAN")? == "big" { "bpfeb" } else { "bpfel" };
    let object = PathBuf::from(variable("OUT_DIR")?).join("portolan.bpf.o");
    let mut command = Command::new(&clang);
    command.args(["-g", "-O2", "-Wall", "-Werror", "-target", endian, "-mcpu=v3"]);
    // Debian keeps <asm/types.h> by architecture, where clang does not look for another target's headers.
    let multiarch = format!("/usr/include/{}-linux-gnu", variable("CARGO_CFG_TARGET_ARCH")?);
    command.arg("-idirafter").arg(multiarch).args(["-c", SOURCE, "-o"]).arg(&object);
    let output = command.stdin(Stdio::null()).output().map_err(|error| {
        format!("the node agent's BPF programs are compiled by clang, and `{clang}` can't be run ({error}): install clang and libbpf's headers (Debian: apt-get install clang libbpf-dev), or set CLANG. `portolan` itself needs neither: cargo build -p portolan")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let advice = if Path::new("/usr/include/bpf/bpf_helpers.h").exists() {
        ""
    } else {
        " (libbpf's headers are missing; Debian: apt-get install libbpf-dev)"
    };
    // A message of cargo's is one line.
    Err(format!("clang refuses {SOURCE}{advice}: {}", said.trim().replace('\n', " | ")))
}
