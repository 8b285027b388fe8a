//! The README's chapter "Routing policies", followed word for word. `PORTOLAN_ACCEPT=1` takes what commands print for what
//! the chapter shows.

use std::fmt::Write;
use std::process::Command;

use portolan_tests::harness::{Setup, portolan, repository, run};

const CHAPTER: &str = "\n## Routing policies\n";

/// What is between fences: the language, and the lines.
fn blocks(chapter: &str) -> Vec<(&str, &str)> {
    let fenced = chapter.split("```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').unwrap()).collect()
}

#[test]
fn the_chapter_can_be_followed() {
    let file = repository().join("README.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once(CHAPTER).expect("the chapter");
    let end = rest.find("\n## ").unwrap();
    let setup = Setup::sample("three-clusters");
    // Written by `command`, which nobody runs.
    let _ = setup.command("check");
    let path = format!("{}:{}", portolan().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut chapter = rest[..end].to_owned();
    let mut commands = 0;
    for (language, block) in blocks(&rest[..end]) {
        if language == "yaml" {
            let (name, _) = block.split_once('\n').unwrap();
            std::fs::write(setup.path(name.strip_prefix("# ").expect("the file's name")), block).unwrap();
            continue;
        }
        let line = block.lines().next().unwrap();
        let mut shell = Command::new("bash");
        shell.args(["-c", line.strip_prefix("$ ").unwrap()]).current_dir(setup.path("")).env("PATH", &path);
        let (good, printed) = run(&mut shell);
        assert!(good, "{line}\n{printed}");
        let mut shown = String::new();
        writeln!(shown, "{line}\n{}", printed.trim_end()).unwrap();
        chapter = chapter.replace(block, &shown);
        commands += 1;
    }
    assert!(commands >= 2, "{commands}");
    if std::env::var_os("PORTOLAN_ACCEPT").is_some() {
        std::fs::write(&file, format!("{before}{CHAPTER}{chapter}{}", &rest[end..])).unwrap();
    }
    assert_eq!(rest[..end], chapter, "PORTOLAN_ACCEPT=1 cargo test -p portolan-tests --test e2e policies");
}
