//! A server at half of its capacity for long, and its memory all the while.

use std::fs::File;
use std::io::Write as _;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::figures::memory::{Memory, Sample};
use super::figures::table::{Round, thousands};
use super::folder;
use super::load::{Drive, ENOUGH, Words};
use super::running::memory;

/// Memory is looked at so often, and in a short run twenty times.
const EACH: Duration = Duration::from_secs(5);
const LEAST_SAMPLES: u32 = 20;
/// A line says that it goes on.
const PROGRESS: Duration = Duration::from_secs(30);
/// The capacity is measured for so long at most.
const CAPACITY_SECONDS: u32 = 5;

impl Drive<'_> {
    /// Half of the capacity. Samples are in `soak.csv` as soon as they are made.
    pub(super) fn soak(&self) -> Result<Round, String> {
        let capacity = self.saturate(self.seconds.min(CAPACITY_SECONDS))?.rate;
        let (rate, seconds) = (Some(capacity / 2.0), self.seconds);
        let words = Words { outstanding: ENOUGH, threads: 1, rate, seconds, each: false };
        eprintln!("soak: {} queries a second for {} s", thousands((capacity / 2.0) as usize), self.seconds);
        let file = samples_file()?;
        let (pids, (end, ended)) = (&self.server.pids(), mpsc::channel());
        let length = Duration::from_secs(self.seconds.into());
        std::thread::scope(|scope| {
            let sampler = scope.spawn(move || watch(pids, length, file, &ended));
            let measured = self.measure(&words);
            drop(end);
            let samples = sampler.join().map_err(|_| "memory could not be watched")??;
            let memory = Memory::soaked(&samples).unwrap_or_default();
            Ok(Round { capacity, memory, ..measured?.0 })
        })
    }
}

fn samples_file() -> Result<File, String> {
    let path = folder().join("soak.csv");
    let mut file = File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    file.write_all(Sample::CSV_HEAD.as_bytes()).map_err(|error| error.to_string())?;
    Ok(file)
}

/// Looks until nobody can say any more that it has ended, and once after that.
fn watch(
    pids: &[u32],
    length: Duration,
    mut file: File,
    ended: &Receiver<()>,
) -> Result<Vec<Sample>, String> {
    let each = EACH.min(length / LEAST_SAMPLES);
    let (begun, mut said) = (Instant::now(), Duration::ZERO);
    let mut samples = Vec::new();
    loop {
        let pause = (each * samples.len() as u32).saturating_sub(begun.elapsed());
        let goes_on = ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout);
        let sample = Sample { at: begun.elapsed(), octets: memory(pids) };
        samples.push(sample);
        file.write_all(sample.csv().as_bytes()).map_err(|error| error.to_string())?;
        if !goes_on {
            return Ok(samples);
        }
        if sample.at >= said + PROGRESS {
            said = sample.at;
            eprintln!(
                "soak: {:.0} of {} s, {} kB",
                said.as_secs_f64(),
                length.as_secs(),
                sample.octets >> 10
            );
        }
    }
}
