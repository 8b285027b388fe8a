//! One GET over plain HTTP: enough to ask a process of ours, whose admin server closes after each response.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

/// For connecting, and for each read.
const PATIENCE: Duration = Duration::from_secs(5);
/// Octets of a response. The status of a thousand clusters has less than one million.
const MAX_RESPONSE: u64 = 64 << 20;

/// The body of `http://<address><path>`, which `program` serves; an error unless it says that all is well (200).
pub fn get(program: &str, address: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = connect(program, address)?;
    let asked = (|| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // HTTP/1.0 has no chunks: the body is what follows the head (RFC 1945 §7.2.2).
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut response = Vec::new();
        stream.take(MAX_RESPONSE).read_to_end(&mut response)?;
        Ok::<_, std::io::Error>(response)
    })();
    let response = asked.with_context(|| format!("{address} does not answer"))?;
    match body(&response).with_context(|| format!("{address} is no admin address of {program}"))? {
        Answer::Body(body) => Ok(body),
        Answer::Refused(why) => bail!("{why}"),
    }
}

/// What a server of ours answers.
enum Answer {
    Body(String),
    /// The question is wrong (400), or there is no time for it (503), and what to do.
    Refused(String),
}

fn connect(program: &str, address: &str) -> anyhow::Result<TcpStream> {
    let addresses = address.to_socket_addrs().with_context(|| format!("{address} can't be looked up"))?;
    let mut last = None;
    for at in addresses {
        match TcpStream::connect_timeout(&at, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    let error = last.ok_or_else(|| anyhow!("{address} has no address"))?;
    let advice = match error.kind() {
        ErrorKind::ConnectionRefused => {
            format!(
                ": nothing listens there; does {program} run here, and is this its admin.listen? Name it by --admin"
            )
        }
        _ => String::new(),
    };
    bail!("{address} can't be reached: {error}{advice}")
}

/// What follows the head of a response with status 200, 400 or 503 (RFC 9112 §4).
fn body(response: &[u8]) -> anyhow::Result<Answer> {
    let text = std::str::from_utf8(response).context("its response is no text")?;
    let (head, body) = text.split_once("\r\n\r\n").context("its response is no HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") if status.starts_with("HTTP/1.") => Ok(Answer::Body(body.to_owned())),
        Some("400" | "503") if status.starts_with("HTTP/1.") => Ok(Answer::Refused(body.trim().to_owned())),
        _ => bail!("its response is `{status}`"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that answers once, whatever it is asked, and tells what it was asked.
    fn serve(response: &'static [u8]) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            let mut octets = [0; 1024];
            while !asked.ends_with(b"\r\n\r\n") {
                let read = stream.read(&mut octets).unwrap();
                asked.extend(&octets[..read]);
            }
            stream.write_all(response).unwrap();
            String::from_utf8(asked).unwrap()
        });
        (address, served)
    }

    #[test]
    fn the_body_is_what_follows_the_head() {
        let (address, served) = serve(b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\none\r\n\r\ntwo");
        assert_eq!(get("portolan", &address, "/status").unwrap(), "one\r\n\r\ntwo");
        let asked = served.join().unwrap();
        assert!(asked.starts_with("GET /status HTTP/1.0\r\n") && asked.contains(&address), "{asked}");
    }

    #[test]
    fn why_there_is_no_answer_is_told() {
        for status in ["400 Bad Request", "503 Service Unavailable"] {
            let response = format!("HTTP/1.1 {status}\r\n\r\nbusy; try again\n").leak();
            let (address, served) = serve(response.as_bytes());
            assert_eq!(get("portolan", &address, "/explain").unwrap_err().to_string(), "busy; try again");
            served.join().unwrap();
        }
    }

    #[test]
    fn what_is_no_answer_of_ours_is_told() {
        for (response, expected) in [
            (&b"HTTP/1.1 404 Not Found\r\n\r\n"[..], "404 Not Found"),
            (b"HTTP/1.1 200 OK\r\n", "no HTTP"),
            (b"", "no HTTP"),
            (b"SSH-2.0 200 hello\r\n\r\n", "SSH-2.0"),
            (b"HTTP/1.1 200 OK\r\n\r\n\xff", "no text"),
        ] {
            let (address, served) = serve(response);
            let text = format!("{:#}", get("portolan", &address, "/status").unwrap_err());
            assert!(text.contains(&address) && text.contains(expected), "{text}");
            served.join().unwrap();
        }
    }

    #[test]
    fn a_port_where_nothing_listens_is_told_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = get("portolan", &taken.to_string(), "/status").unwrap_err().to_string();
        assert!(
            text.contains("nothing listens there; does portolan run here") && text.contains("--admin"),
            "{text}"
        );
        assert!(
            get("portolan", "nowhere.invalid:1", "/").unwrap_err().to_string().contains("nowhere.invalid:1")
        );
    }
}
