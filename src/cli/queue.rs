//! `tidegate queue PATH`: what is stored.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;

use super::{Export, FAULT, complain, say};
use crate::clock;
use crate::position::Position;
use crate::queue::inspect::{Inspection, Stored, inspect};
use crate::reading::{Stamp, Timestamp};

/// The most segments that are listed one by one.
const SEGMENTS_SHOWN: usize = 20;

pub(super) fn queue(path: &Path, export: Option<Export>) -> ExitCode {
    let result =
        inspect(path).with_context(|| format!("{}", path.display())).and_then(|found| match export {
            None => {
                say(&summary(&found, clock::wall()));
                Ok(())
            }
            Some(Export::Csv) => csv(&found, &mut BufWriter::new(io::stdout().lock())),
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::from(FAULT)
        }
    }
}

fn summary(found: &Inspection, now: Timestamp) -> String {
    let mut text = format!("{}\n\n", found.folder.display());
    let count: u64 = found.segments.iter().map(|segment| segment.count).sum();
    let size: u64 = found.segments.iter().map(|segment| segment.size).sum();
    text += &format!("{count} readings in {} segments, {}\n", found.segments.len(), bytes(size));
    text += &segments(found);
    for (uplink, cursor) in &found.cursors {
        text += &waiting(found, uplink, *cursor, now);
    }
    for gap in &found.gaps {
        text += &format!(
            "  gap: {} readings were dropped, from {} to {} ({})\n",
            gap.end.since(gap.first),
            time(gap.from),
            time(gap.to),
            gap.reason.id()
        );
    }
    let damaged: u64 = found.segments.iter().map(|segment| segment.damaged).sum();
    if damaged > 0 {
        text += &format!("  {damaged} records are damaged and passed over\n");
    }
    if found.set_aside > 0 {
        text += &format!("  {} files that are no segments were set aside\n", found.set_aside);
    }
    text
}

fn segments(found: &Inspection) -> String {
    let mut text = String::new();
    for segment in found.segments.iter().take(SEGMENTS_SHOWN) {
        text += &format!(
            "  {:<28} {:>10} {:>9} readings  {} to {}{}\n",
            segment.path.file_name().unwrap_or_default().to_string_lossy(),
            bytes(segment.size),
            segment.count,
            time(segment.from),
            time(segment.to),
            if segment.is_in_memory { "  in memory" } else { "" },
        );
    }
    let more = found.segments.len().saturating_sub(SEGMENTS_SHOWN);
    if more > 0 {
        text += &format!("  and {more} more\n");
    }
    text
}

fn waiting(found: &Inspection, uplink: &str, cursor: Position, now: Timestamp) -> String {
    match found.waiting(cursor) {
        (0, _) => format!("  uplink {uplink}: all is delivered\n"),
        (count, from) => {
            let age = from.map(|from| now.millis().saturating_sub(from.millis()) / 1000);
            let age = age.map_or_else(String::new, |age| {
                format!(
                    ", the oldest not more than {} old",
                    humantime::format_duration(Duration::from_secs(age))
                )
            });
            format!("  uplink {uplink}: {count} readings may still have to be delivered{age}\n")
        }
    }
}

fn bytes(size: u64) -> String {
    match size {
        0..1024 => format!("{size} B"),
        1024..0x10_0000 => format!("{}.{} KiB", size >> 10, ((size & 0x3FF) * 10) >> 10),
        _ => format!("{}.{} MiB", size >> 20, ((size & 0xF_FFFF) * 10) >> 20),
    }
}

fn time(at: Option<Timestamp>) -> String {
    // beyond the year 9999 there is no such time to write
    let at = at
        .filter(|at| at.millis() < 253_402_300_800_000)
        .map(|at| UNIX_EPOCH + Duration::from_millis(at.millis()));
    at.map_or_else(|| "?".to_owned(), |at| humantime::format_rfc3339_millis(at).to_string())
}

/// Writes every reading as a line (RFC 4180). A reader that goes away ends it.
fn csv(found: &Inspection, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut result = writeln!(out, "position,time,device,tag,value,quality");
    if result.is_ok() {
        found.readings(&mut |stored| {
            result = line(out, &stored);
            result.is_ok()
        })?;
    }
    match result.and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

fn line(out: &mut dyn Write, stored: &Stored<'_>) -> io::Result<()> {
    let at = match stored.reading.at {
        Stamp::Wall(at) => time(Some(at)),
        Stamp::SinceBoot(millis) => format!("boot+{}.{:03}s", millis / 1000, millis % 1000),
    };
    let (device, tag) = stored.name.unwrap_or(("?", "?"));
    let value = stored.reading.value.as_ref().map(ToString::to_string).unwrap_or_default();
    let (position, quality) = (stored.position, stored.reading.quality.id());
    writeln!(out, "{position},{at},{},{},{},{quality}", quoted(device), quoted(tag), quoted(&value))
}

fn quoted(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_times_and_texts_are_as_people_write_them() {
        for (size, expected) in
            [(5, "5 B"), (1536, "1.5 KiB"), (3 << 20, "3.0 MiB"), ((1 << 30) + 1, "1024.0 MiB")]
        {
            assert_eq!(bytes(size), expected);
        }
        assert_eq!(time(Some(Timestamp::from_millis(1_764_000_000_123))), "2025-11-24T16:00:00.123Z");
        assert_eq!(
            (time(None), time(Some(Timestamp::from_millis(u64::MAX)))),
            ("?".to_owned(), "?".to_owned())
        );
        assert_eq!((quoted("a"), quoted("a,\"b\"")), ("a".to_owned(), "\"a,\"\"b\"\"\"".to_owned()));
    }
}
