//! What the kernel and our own allocator say of this process and its container: cgroup v1 and v2, /proc, jemalloc.
//! Readers only, except `purge`. A file that is not there is an absent figure, never a guess.

use std::path::Path;

use tikv_jemalloc_ctl::{Access, AsName, Name, arenas, epoch, stats};

/// The container as its cgroup tells. Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    pub used: Option<u64>,
    /// None: no limit.
    pub limit: Option<u64>,
    /// Neither page cache nor shared: closest to a leak.
    pub anon: Option<u64>,
    pub inactive_file: Option<u64>,
    pub swap: Option<u64>,
    pub oom_kills: Option<u64>,
}

/// This process. Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    pub resident: Option<u64>,
    pub swap: Option<u64>,
}

/// Our own allocator. Bytes; zero when the program runs on another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heap {
    pub allocated: u64,
    pub active: u64,
    pub resident: u64,
}

/// Where the kernel shows cgroups inside a container.
pub const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// v1 writes "no limit" as the largest page-aligned number; no machine has a tenth of that.
const V1_UNLIMITED: u64 = 1 << 60;
/// Pages of the kernels that our images run on.
const PAGE_BYTES: u64 = 4_096;

/// The container that this process is in.
pub fn cgroup() -> Cgroup {
    cgroup_at(Path::new(CGROUP_ROOT))
}

/// The same, under another root: the engine's container if it is mounted, or a test's folder.
pub fn cgroup_at(root: &Path) -> Cgroup {
    if root.join("memory.current").exists() { cgroup_v2(root) } else { cgroup_v1(&root.join("memory")) }
}

fn cgroup_v2(root: &Path) -> Cgroup {
    let stat = text(&root.join("memory.stat"));
    Cgroup {
        used: number(&root.join("memory.current")),
        // "max" is not a number: no limit.
        limit: number(&root.join("memory.max")),
        anon: field(&stat, "anon"),
        inactive_file: field(&stat, "inactive_file"),
        swap: number(&root.join("memory.swap.current")),
        oom_kills: field(&text(&root.join("memory.events")), "oom_kill"),
    }
}

fn cgroup_v1(root: &Path) -> Cgroup {
    let stat = text(&root.join("memory.stat"));
    let used = number(&root.join("memory.usage_in_bytes"));
    let with_swap = number(&root.join("memory.memsw.usage_in_bytes"));
    Cgroup {
        used,
        limit: number(&root.join("memory.limit_in_bytes")).filter(|limit| *limit < V1_UNLIMITED),
        anon: field(&stat, "total_rss"),
        inactive_file: field(&stat, "total_inactive_file"),
        swap: with_swap.zip(used).map(|(with, without)| with.saturating_sub(without)),
        oom_kills: field(&text(&root.join("memory.oom_control")), "oom_kill"),
    }
}

/// This process, from statm (cheap) and status.
pub fn process() -> Process {
    process_at(Path::new("/proc/self"))
}

fn process_at(root: &Path) -> Process {
    let pages =
        text(&root.join("statm")).split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let status = text(&root.join("status"));
    let swap = status.lines().find_map(|line| line.strip_prefix("VmSwap:"));
    let kib = swap.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    Process { resident: pages.map(|pages| pages * PAGE_BYTES), swap: kib.map(|kib| kib << 10) }
}

/// jemalloc's name for all arenas together (`MALLCTL_ARENAS_ALL`).
const ALL_ARENAS: u32 = 4096;

/// Our own heap. Advances the statistics' epoch: once per sample is enough.
pub fn heap() -> Heap {
    if epoch::advance().is_err() {
        return Heap::default();
    }
    let bytes = |read: Result<usize, tikv_jemalloc_ctl::Error>| read.unwrap_or(0) as u64;
    Heap {
        allocated: bytes(stats::allocated::read()),
        active: bytes(stats::active::read()),
        resident: bytes(stats::resident::read()),
    }
}

/// Bytes that our own heap has handed out since the start, freed or not, rounded up to size classes. What a
/// thread's cache has served is counted when that cache next talks to its arena, a moment late. Source: jemalloc(3),
/// `stats.arenas.<i>.bins.<j>.nrequests`.
pub fn heap_handed_out() -> u64 {
    if epoch::advance().is_err() {
        return 0;
    }
    let kinds = |count: &str, kind: &str, sizes: &str| -> u64 {
        let bytes = |index: u32| {
            let size = read::<usize>(&format!("arenas.{sizes}.{index}.size")).unwrap_or(0) as u64;
            let requests = read::<u64>(&format!("stats.arenas.{ALL_ARENAS}.{kind}.{index}.nrequests"));
            size * requests.unwrap_or(0)
        };
        (0..read::<u32>(&format!("arenas.{count}")).unwrap_or(0)).map(bytes).sum()
    };
    kinds("nbins", "bins", "bin") + kinds("nlextents", "lextents", "lextent")
}

/// One of jemalloc's figures; the typed `Access` checks that its type is this.
fn read<T>(name: &str) -> Option<T>
where
    Name: Access<T>,
{
    format!("{name}\0").as_str().name().read().ok()
}

/// Gives freed pages of every arena back to the kernel: a decay time of zero purges at once, then the old one
/// returns. Answers the resident bytes before and after.
pub fn purge() -> (u64, u64) {
    let before = heap().resident;
    let count = arenas::narenas::read().unwrap_or(0);
    for arena in 0..count {
        for kind in ["dirty", "muzzy"] {
            let name = format!("arena.{arena}.{kind}_decay_ms\0");
            let decay = name.as_str().name();
            // An arena that was never used has no decay time.
            let Ok(old) = Access::<isize>::read(decay) else { continue };
            if Access::<isize>::write(decay, 0).is_ok()
                && let Err(error) = Access::<isize>::write(decay, old)
            {
                tracing::warn!(arena, %error, "restore the decay time");
            }
        }
    }
    (before, heap().resident)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn number(path: &Path) -> Option<u64> {
    text(path).trim().parse().ok()
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files, removed when dropped.
    struct Files(std::path::PathBuf);

    impl Files {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("blobstore-{name}-{}", std::process::id()));
            for (path, content) in files {
                let path = root.join(path);
                std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
                std::fs::write(path, content).expect("a file");
            }
            Self(root)
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).expect("removed");
        }
    }

    #[test]
    fn version_two_without_a_limit() {
        let files = Files::new(
            "v2",
            &[
                ("memory.current", "1000\n"),
                ("memory.max", "max\n"),
                ("memory.stat", "anon 600\nanon_thp 7\nfile 10\ninactive_file 200\n"),
                ("memory.swap.current", "5\n"),
                ("memory.events", "oom 3\noom_kill 2\n"),
            ],
        );
        let wanted = Cgroup {
            used: Some(1_000),
            limit: None,
            anon: Some(600),
            inactive_file: Some(200),
            swap: Some(5),
            oom_kills: Some(2),
        };
        assert_eq!(cgroup_at(&files.0), wanted);
    }

    #[test]
    fn version_one_with_and_without_a_limit() {
        for (text, limit) in [("4096", Some(4_096)), ("9223372036854771712", None)] {
            let files = Files::new(
                &format!("v1-{}", text.len()),
                &[
                    ("memory/memory.usage_in_bytes", "1000"),
                    ("memory/memory.memsw.usage_in_bytes", "1300"),
                    ("memory/memory.limit_in_bytes", text),
                    ("memory/memory.stat", "rss 1\ntotal_rss 600\n"),
                ],
            );
            let seen = cgroup_at(&files.0);
            assert_eq!((seen.limit, seen.swap, seen.anon), (limit, Some(300), Some(600)));
        }
    }

    #[test]
    fn nothing_there_is_nothing_known() {
        assert_eq!(cgroup_at(Path::new("/nonexistent")), Cgroup::default());
        assert_eq!(process_at(Path::new("/nonexistent")), Process::default());
    }

    #[test]
    fn this_process_is_resident() {
        let seen = process();
        assert!(seen.resident.is_some_and(|bytes| bytes > 1 << 20) && seen.swap.is_some(), "{seen:?}");
    }

    #[test]
    fn purging_keeps_the_decay_times() {
        let (before, after) = purge();
        assert!(after <= before.max(after), "{before} then {after}");
        let decay = "arena.0.dirty_decay_ms\0".name();
        let kept: isize = decay.read().expect("arena 0 is always there");
        assert_ne!(kept, 0);
    }
}
