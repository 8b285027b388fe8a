//! Zone-file lines as clients print them: absolute names.

/// Makes the names of a line absolute. `@` is the origin, a line that begins with a blank has `owner` for its
/// owner, names that end with a dot stay.
pub fn absolute(line: &str, owner: &str, origin: &str) -> String {
    let full = |name: &str| match name {
        "@" => format!("{origin}."),
        name if name.ends_with('.') => name.to_owned(),
        name => format!("{name}.{origin}."),
    };
    let line = if line.starts_with(' ') { format!("{owner}{line}") } else { line.to_owned() };
    let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    words[0] = full(&words[0]);
    let names: &[usize] = match words[3].as_str() {
        "SOA" => &[4, 5],
        "NS" | "PTR" => &[4],
        "SRV" => &[7],
        _ => &[],
    };
    for &at in names {
        words[at] = full(&words[at]);
    }
    words.join(" ")
}

/// A SOA record, or a zone file of relative names, with the serial 1: a serial is the time of the last change.
pub fn without_serial(text: &str) -> String {
    let line = |line: &str| match line.split_once(" SOA ") {
        Some((head, data)) => {
            let mut words: Vec<_> = data.split(' ').collect();
            words[2] = "1";
            format!("{head} SOA {}", words.join(" "))
        }
        None => line.to_owned(),
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}
