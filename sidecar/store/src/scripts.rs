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

macro_rules! scripts {
    ($($name:ident = $file:literal $(after $($shared:literal)+)?),+ $(,)?) => {
        $(pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| {
            let text = concat!(
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
    RESERVE = "reserve",
    COMMIT = "commit" after "objects" "versions",
    // Where the bucket keeps no versions: the engine reads and runs less.
    COMMIT_PLAIN = "commit" after "objects",
    DELETE = "delete" after "objects" "versions",
    MARK = "mark" after "objects" "versions",
    VERSION_DELETE = "version_delete" after "objects" "versions",
    VERSION_FIND = "version_find" after "objects" "versions",
    VERSION_SCAN = "version_scan",
    BUCKET_VERSIONING = "bucket_versioning",
    RELEASE = "release",
    TOUCH = "touch",
    UPDATE = "update",
    SWAP = "swap",
    EXPIRY_STRIKE = "expiry_strike",
    BUCKET_DOCUMENT = "bucket_document",
    REPAIR = "repair",
    UPLOAD_CREATE = "upload_create",
    PART_COMMIT = "part_commit",
    UPLOAD_ABORT = "upload_abort",
    SKIP_SCAN = "skip_scan",
    BUCKET_CREATE = "bucket_create",
    BUCKET_UPDATE = "bucket_update",
    BUCKET_DROP = "bucket_drop",
    LEASE = "lease",
    RECALL = "recall",
    SEAL = "seal",
}

/// What the lanes call: loaded when one is opened.
pub(crate) fn of_lanes() -> [&'static Script; 5] {
    [&RESERVE, &COMMIT, &COMMIT_PLAIN, &PART_COMMIT, &SWAP]
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_script_declares_its_flags() {
        for script in super::all() {
            assert!(script.text.starts_with("#!lua"), "{}", script.name);
        }
    }
}
