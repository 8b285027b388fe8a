//! What `dig` and `kdig` print, taken apart.

/// A reply; records are in the order of the message, their fields separated by one blank.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// All that was printed.
    pub text: String,
    /// `NOERROR` and so on; `none` when there was no reply.
    pub status: String,
    /// `qr aa rd` and so on.
    pub flags: Vec<String>,
    /// Lines of the OPT record.
    pub edns: Vec<String>,
    /// `name IN TYPE`.
    pub question: Vec<String>,
    /// Records.
    pub answer: Vec<String>,
    /// Records.
    pub authority: Vec<String>,
    /// Records, without OPT.
    pub additional: Vec<String>,
}

impl Reply {
    /// Reads the first reply of an output.
    pub fn parse(text: &str) -> Self {
        let mut reply = Self { text: text.to_owned(), status: "none".to_owned(), ..Self::default() };
        let mut section = None;
        let header = text.lines().skip_while(|line| !line.contains("->>HEADER<<-"));
        for line in header {
            if line.contains("->>HEADER<<-") {
                reply.status = field(line, "status: ").unwrap_or_default();
            } else if line.to_lowercase().starts_with(";; flags: ") {
                let flags = &line[";; flags: ".len()..];
                reply.flags = flags.split(';').next().unwrap().split(' ').map(str::to_owned).collect();
            } else if let Some(title) = line.strip_prefix(";; ").filter(|l| l.contains("SECTION:")) {
                section = title.split(' ').next();
            } else if line.is_empty() {
                section = None;
            } else {
                reply.push(section, line);
            }
        }
        reply
    }

    fn push(&mut self, section: Option<&str>, line: &str) {
        let record = normal(line.trim_start_matches(['=', ';', ' ']));
        match section {
            Some("OPT" | "EDNS") => self.edns.push(record),
            Some("QUESTION") => self.question.push(record),
            Some("ANSWER") => self.answer.push(record),
            Some("AUTHORITY") => self.authority.push(record),
            Some("ADDITIONAL") => self.additional.push(record),
            _ => {}
        }
    }

    /// The lines that are records.
    pub fn records(text: &str) -> Vec<String> {
        text.lines().filter(|line| !line.is_empty() && !line.starts_with(';')).map(normal).collect()
    }

    /// Data of the answer's records, sorted: what most clients look at.
    pub fn data(&self) -> Vec<String> {
        let mut data: Vec<_> =
            self.answer.iter().map(|record| record.splitn(5, ' ').last().unwrap().to_owned()).collect();
        data.sort();
        data
    }

    /// Whether a flag is set.
    pub fn flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|set| set == flag)
    }

    /// Whether a line of the OPT record holds this text.
    pub fn option(&self, text: &str) -> bool {
        self.edns.iter().any(|line| line.contains(text))
    }

    /// Octets of the message, as the client counted them.
    pub fn size(&self) -> usize {
        let from = |mark: &str| field(&self.text, mark).and_then(|text| text.parse().ok());
        from("MSG SIZE  rcvd: ").or_else(|| from(";; Received ")).expect("a size")
    }

    /// TTL of the first record.
    pub fn ttl(&self) -> u32 {
        let records = self.answer.iter().chain(&self.authority);
        let ttl = records.filter_map(|record| record.split(' ').nth(1)?.parse().ok()).next();
        ttl.unwrap_or_else(|| panic!("no record: {}", self.text))
    }
}

/// The word behind a mark.
fn field(text: &str, mark: &str) -> Option<String> {
    let word = text.split_once(mark)?.1.split([',', ';', ' ', '\n']).next()?;
    Some(word.to_owned())
}

fn normal(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
