//! What processes use, from /proc (proc(5)).

use std::{collections::HashSet, fs, time::Duration};

/// A process of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The program's name.
    pub name: String,
}

/// What a process has used so far, or has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time of its threads.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub resident: u64,
}

/// The children of a process, or the process itself if it has none.
#[must_use]
pub fn family(pid: u32) -> Vec<Process> {
    let named = |pid: u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let program = name.split('\0').next()?.rsplit('/').next()?.to_owned();
        Some(Process { pid, name: program })
    };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut children: Vec<_> = pids.filter(|child| parent(*child) == Some(pid)).filter_map(named).collect();
    if children.is_empty() {
        children.extend(named(pid));
    }
    children.sort_by(|one, other| one.name.cmp(&other.name));
    children
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may have anything in it, spaces and parentheses too.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// What a process uses; nothing if it is gone.
#[must_use]
pub fn usage(pid: u32) -> Usage {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    // In nanoseconds, where stat has hundredths of seconds.
    let nanos = tasks.filter_map(|task| {
        let stat = fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Usage { cpu: Duration::from_nanos(nanos.sum()), resident: resident.unwrap_or(0) * 1024 }
}

/// Datagrams that the kernel threw away because a process did not read them in time, over all its UDP sockets.
#[must_use]
pub(super) fn dropped(pid: u32) -> u64 {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let sockets: HashSet<String> = links
        .filter_map(|link| {
            let target = fs::read_link(link.path()).ok()?;
            Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    let tables = ["udp", "udp6"].map(|table| fs::read_to_string(format!("/proc/{pid}/net/{table}")));
    let drops = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let own = sockets.contains(*fields.get(9)?);
        fields.get(12)?.parse::<u64>().ok().filter(|_| own)
    };
    tables.iter().flatten().flat_map(|table| table.lines().filter_map(drops)).sum()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn this_process_is_known_and_uses_something() {
        let pid = std::process::id();
        let before = usage(pid);
        let sum = (0..20_000_000u64).fold(0, |sum: u64, n| std::hint::black_box(sum.wrapping_add(n * n)));
        assert_ne!(sum, 1);
        let after = usage(pid);
        assert!(after.cpu > before.cpu);
        assert!(after.resident > 1 << 20);
        assert!(parent(pid).is_some_and(|parent| family(parent).iter().any(|child| child.pid == pid)));
        assert_eq!(usage(u32::MAX), Usage::default());
    }

    #[test]
    fn what_is_not_read_is_counted() {
        let (receiver, sender) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let before = dropped(std::process::id());
        for _ in 0..20_000 {
            sender.send_to(&[0; 1400], receiver.local_addr().unwrap()).unwrap();
        }
        assert!(dropped(std::process::id()) > before);
    }
}
