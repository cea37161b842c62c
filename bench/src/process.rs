//! What the kernel says of a process: processor time and resident memory, from /proc (proc(5)).

use std::time::Duration;

use crate::Outcome;

/// Clock ticks of /proc per second: the kernel's USER_HZ, 100 on every architecture that the server is built for.
const TICKS_PER_SECOND: u64 = 100;

/// Processor time of a process so far, user and system, over all its threads.
pub fn processor_time(pid: u32) -> Outcome<Duration> {
    ticks(&read(pid, "stat")?)
        .map(|ticks| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
        .ok_or_else(|| format!("/proc/{pid}/stat is not as proc(5) says"))
}

/// Resident memory of a process in KiB.
pub fn resident_kib(pid: u32) -> Outcome<u64> {
    resident(&read(pid, "status")?).ok_or_else(|| format!("/proc/{pid}/status is not as proc(5) says"))
}

/// The most memory that a process ever held, in KiB.
pub fn peak_kib(pid: u32) -> Outcome<u64> {
    let status = read(pid, "status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.ok_or_else(|| format!("/proc/{pid}/status is not as proc(5) says"))
}

fn read(pid: u32, file: &str) -> Outcome<String> {
    let path = format!("/proc/{pid}/{file}");
    std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))
}

/// utime and stime, fields 14 and 15; counted after the name, which may hold spaces and parentheses.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn resident(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    value.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_after_a_name_of_any_kind() {
        let check = |name: &str, expected| {
            let stat = format!("42 ({name}) S 1 42 42 0 -1 4194560 900 0 0 0 1234 66 7 8 20 0 5 0 100 9 9 9");
            assert_eq!(ticks(&stat), expected, "{name}");
        };
        check("chancery", Some(1300));
        check("a) b (c", Some(1300));
        assert_eq!(ticks("42 (short) S 1"), None);
    }

    #[test]
    fn resident_memory_is_read_in_kib() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t   31712 kB\nRssAnon:\t 1 kB\n"), Some(31712));
        assert_eq!(resident("Name:\tx\n"), None);
    }

    #[test]
    fn this_very_process_has_both() {
        let pid = std::process::id();
        assert!(resident_kib(pid).unwrap() > 100);
        assert!(processor_time(pid).is_ok());
        assert!(resident_kib(u32::MAX).is_err());
    }
}
