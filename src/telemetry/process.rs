//! What the kernel says about this process, read from `/proc/self`; nothing where that is absent.

use std::fs;

/// Linux tells CPU time in these to every program, whatever its own timer does (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Figures that could be read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ProcessFigures {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) open_files: Option<u64>,
    pub(super) max_files: Option<u64>,
    /// Seconds since 1970.
    pub(super) started: Option<u64>,
}

/// Bytes of memory that the process has now.
pub fn resident_bytes() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    usize::try_from(kilobytes(&status, "VmRSS:")?).ok()
}

/// File descriptors that the process may have open; `None` when there is no bound that is known.
pub fn descriptors() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    usize::try_from(number_after(&limits, "Max open files")?).ok()
}

impl ProcessFigures {
    /// As of now.
    pub(super) fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (stat, status) = (text("/proc/self/stat"), text("/proc/self/status"));
        Self {
            cpu_seconds: cpu_seconds(&stat),
            resident_bytes: kilobytes(&status, "VmRSS:"),
            virtual_bytes: kilobytes(&status, "VmSize:"),
            threads: number_after(&status, "Threads:"),
            // The descriptor that lists them is among them.
            open_files: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|list| (list.count() as u64).saturating_sub(1)),
            max_files: number_after(&text("/proc/self/limits"), "Max open files"),
            started: started(&stat, &text("/proc/stat")),
        }
    }
}

/// Field `number` of `/proc/self/stat`, counted from 1 as in proc(5). The second is the program's
/// name in parentheses, which may hold anything, so the others are found from its end.
fn field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((field(stat, 14)? + field(stat, 15)?) as f64 / TICKS_PER_SECOND)
}

fn started(stat: &str, system: &str) -> Option<u64> {
    let after_boot = field(stat, 22)? as f64 / TICKS_PER_SECOND;
    Some(number_after(system, "btime ")? + after_boot as u64)
}

fn kilobytes(status: &str, name: &str) -> Option<u64> {
    Some(number_after(status, name)? * 1024)
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_program_name_with_blanks_and_parentheses_shifts_no_field() {
        let stat = "7 (a ) b (c) S 1 7 7 0 -1 4194304 2000 0 0 0 150 50 0 0 20 0 4 0 1000 9 9";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(started(stat, "cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_010));
    }

    #[test]
    fn what_cannot_be_read_is_absent() {
        assert_eq!(cpu_seconds(""), None);
        assert_eq!(number_after("Max open files            unlimited\n", "Max open files"), None);
        assert_eq!(
            number_after("Max open files            1024   4096 files\n", "Max open files"),
            Some(1024)
        );
        assert_eq!(kilobytes("VmRSS:\t  12 kB\n", "VmRSS:"), Some(12_288));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_all_of_them() {
        let figures = ProcessFigures::read();
        assert!(figures.resident_bytes.unwrap() > 0);
        assert!(figures.open_files.unwrap() >= 3);
        assert!(figures.threads.unwrap() >= 1);
        assert!(figures.started.is_some() && figures.cpu_seconds.is_some());
    }
}
