//! The minimum that a server must do to send one message to many sockets.

use std::time::{Duration, Instant};

use super::{accept_all, from_hex, write_frame};
use crate::failure::Failure;

/// Runs the write loop until its stdin ends.
pub(crate) fn serve(sockets: usize) -> Result<(), Failure> {
    let receivers = accept_all(sockets)?;
    println!("ready");
    let mut frame = Vec::new();
    for line in std::io::stdin().lines() {
        let line = line.map_err(Failure::io("stdin"))?;
        let misread = || Failure::Unmeasurable(format!("the write loop does not understand {line:?}"));
        match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
            ["frame", hex] => frame = from_hex(hex).ok_or_else(misread)?,
            ["go", ticks, interval_us] => {
                let ticks = ticks.parse().map_err(|_| misread())?;
                let interval = Duration::from_micros(interval_us.parse().map_err(|_| misread())?);
                let (start, mut writes) = (Instant::now(), 0u64);
                for tick in 0..ticks {
                    std::thread::sleep((start + interval * tick).saturating_duration_since(Instant::now()));
                    for receiver in &receivers {
                        write_frame(receiver, &frame)?;
                        writes += 1;
                    }
                }
                println!("done {writes}");
            }
            _ => return Err(misread()),
        }
    }
    Ok(())
}
