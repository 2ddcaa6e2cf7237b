//! The engine-side halves of the store's atomic steps. Every script declares keys of one slot only; those that free
//! memory or finish what was admitted may run out of memory (`allow-oom`), those that admit may not.

use std::sync::LazyLock;

/// A script: for the `redis` crate, and as text and hash for the lanes.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
    pub(crate) redis: redis::Script,
}

impl Script {
    fn new(name: &'static str, text: &'static str) -> Self {
        Self { name, text, redis: redis::Script::new(text) }
    }

    pub(crate) fn hash(&self) -> &str {
        self.redis.get_hash()
    }
}

/// The first line of a script: what it may do when the engine is full.
macro_rules! first_line {
    (admits) => {
        "#!lua\n"
    };
    (frees) => {
        "#!lua flags=allow-oom\n"
    };
    (looks) => {
        "#!lua flags=no-writes,allow-oom\n"
    };
}

macro_rules! scripts {
    ($($name:ident = $kind:ident $file:literal $(after $($shared:literal)+)?),+ $(,)?) => {
        $(pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| {
            let text = concat!(
                first_line!($kind),
                $($(include_str!(concat!("scripts/", $shared, ".lua")),)+)?
                include_str!(concat!("scripts/", $file, ".lua"))
            );
            Script::new($file, text)
        });)+
        #[cfg(test)]
        fn all() -> Vec<&'static Script> {
            vec![$(&*$name),+]
        }
    };
}

scripts! {
    RESERVE = admits "reserve",
    STORE = admits "store" after "objects" "versions" "commits",
    // Where the bucket keeps no versions: the engine reads and runs less.
    STORE_PLAIN = admits "store" after "objects" "commits",
    COMMIT = frees "commit" after "objects" "versions" "commits",
    COMMIT_PLAIN = frees "commit" after "objects" "commits",
    DELETE = frees "delete" after "objects" "versions",
    MARK = frees "mark" after "objects" "versions",
    VERSION_DELETE = frees "version_delete" after "objects" "versions",
    VERSION_FIND = frees "version_find" after "objects" "versions",
    VERSION_SCAN = looks "version_scan",
    BUCKET_VERSIONING = admits "bucket_versioning",
    RELEASE = frees "release",
    TOUCH = frees "touch",
    UPDATE = frees "update",
    SWAP = frees "swap" after "objects",
    EXPIRY_STRIKE = frees "expiry_strike",
    BUCKET_DOCUMENT = admits "bucket_document",
    REPAIR = frees "repair",
    UPLOAD_CREATE = admits "upload_create",
    PART_COMMIT = frees "part_commit",
    UPLOAD_ABORT = frees "upload_abort",
    SKIP_SCAN = looks "skip_scan",
    BUCKET_CREATE = admits "bucket_create",
    BUCKET_UPDATE = frees "bucket_update",
    BUCKET_DROP = frees "bucket_drop",
    LEASE = admits "lease",
    RECALL = frees "recall",
    SEAL = frees "seal",
}

/// What the lanes call: loaded when one is opened.
pub(crate) fn of_lanes() -> [&'static Script; 7] {
    [&RESERVE, &STORE, &STORE_PLAIN, &COMMIT, &COMMIT_PLAIN, &PART_COMMIT, &SWAP]
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_script_begins_with_what_it_may_do() {
        for script in super::all() {
            let lines = script.text.lines().filter(|line| line.starts_with("#!lua")).count();
            assert!(script.text.starts_with("#!lua") && lines == 1, "{}", script.name);
        }
    }
}
