//! The engine's own figures: `INFO` as text, parsed once into what the detector looks at.

use std::collections::HashMap;

use crate::hygiene::layout::{EngineVersion, Layout};

/// The lines of `INFO`, by name.
#[derive(Debug)]
pub struct Info<'a>(HashMap<&'a str, &'a str>);

impl<'a> Info<'a> {
    pub fn parse(text: &'a str) -> Self {
        Self(text.lines().filter_map(|line| line.trim_end().split_once(':')).collect())
    }

    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).copied()
    }

    pub fn number(&self, name: &str) -> u64 {
        self.text(name).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    pub fn version(&self) -> Option<EngineVersion> {
        EngineVersion::parse(self.text("redis_version")?, self.text("valkey_version"))
    }

    /// `db0:keys=1,expires=0,…`: keys and expiries. Cluster mode has one database.
    fn keyspace(&self) -> (u64, u64) {
        let field = |name: &str| {
            let fields = self.text("db0").into_iter().flat_map(|text| text.split(','));
            fields.filter_map(|field| field.split_once('=')).find(|(key, _)| *key == name)
        };
        let number = |name| field(name).and_then(|(_, text)| text.parse().ok()).unwrap_or(0);
        (number("keys"), number("expires"))
    }

    /// INFO of server, memory, stats, clients, persistence, replication and keyspace.
    pub fn engine(&self) -> Option<EngineFigures> {
        let (keys, expiries) = self.keyspace();
        let number = |name| self.number(name);
        let apart = [
            "mem_clients_normal",
            "mem_clients_slaves",
            "mem_replication_backlog",
            "mem_cluster_links",
            "mem_aof_buffer",
            "used_memory_scripts_eval",
            "used_memory_functions",
        ];
        Some(EngineFigures {
            run_id: self.text("run_id")?.to_owned(),
            primary: self.text("role")? == "master",
            uptime_seconds: number("uptime_in_seconds"),
            loading: number("loading") > 0 || number("async_loading") > 0,
            forked: ["rdb_bgsave_in_progress", "aof_rewrite_in_progress", "module_fork_in_progress"]
                .iter()
                .any(|name| number(name) > 0),
            syncing: number("master_sync_in_progress") > 0,
            used: number("used_memory"),
            overhead: number("used_memory_overhead"),
            startup: number("used_memory_startup"),
            dataset: number("used_memory_dataset"),
            apart: apart.iter().map(|name| number(name)).sum(),
            clients: number("mem_clients_normal"),
            rss: number("used_memory_rss"),
            pages: self.text("mem_allocator")?.starts_with("jemalloc").then(|| Pages {
                allocated: number("allocator_allocated"),
                active: number("allocator_active"),
                resident: number("allocator_resident"),
            }),
            lazyfree_pending: number("lazyfree_pending_objects"),
            maxmemory: number("maxmemory"),
            connections: number("connected_clients"),
            commands: number("total_commands_processed"),
            keys,
            expiries,
        })
    }
}

/// jemalloc's view of the engine, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    pub allocated: u64,
    /// Pages that hold live data.
    pub active: u64,
    /// Pages that the kernel has given, freed ones included.
    pub resident: u64,
}

/// One look at the engine. Bytes unless the name says otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineFigures {
    pub run_id: String,
    pub primary: bool,
    pub uptime_seconds: u64,
    pub loading: bool,
    pub forked: bool,
    pub syncing: bool,
    pub used: u64,
    pub overhead: u64,
    pub startup: u64,
    pub dataset: u64,
    /// Overhead that is not keyspace: clients, backlog, links, buffers, scripts.
    pub apart: u64,
    pub clients: u64,
    pub rss: u64,
    /// None on libc, where the engine invents these figures.
    pub pages: Option<Pages>,
    pub lazyfree_pending: u64,
    pub maxmemory: u64,
    pub connections: u64,
    pub commands: u64,
    pub keys: u64,
    pub expiries: u64,
}

impl EngineFigures {
    /// The main tables (both of them while one is rehashed), as the engine counts them: its overhead without
    /// what is apart and without what it charges per key.
    pub fn tables(&self, layout: &Layout) -> u64 {
        let per_key = self.keys * layout.counted_per_key + self.expiries * layout.counted_per_expiry;
        self.overhead.saturating_sub(self.startup + self.apart + per_key)
    }

    /// Bytes of all keys: what the ledger has to explain.
    pub fn keyspace(&self, layout: &Layout) -> i64 {
        let other = self.startup + self.apart + self.tables(layout);
        i64::try_from(self.used).unwrap_or(i64::MAX) - i64::try_from(other).unwrap_or(i64::MAX)
    }

    /// `used_memory_dataset` is an unsigned remainder: more than everything means that it went below zero.
    pub fn underflowed(&self) -> bool {
        self.dataset > self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hygiene::size_model::ASSUMED;

    const TEXT: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\nuptime_in_seconds:77\r\n# Memory\r\n\
        used_memory:10000\r\nused_memory_overhead:2760\r\nused_memory_startup:1000\r\nused_memory_dataset:7240\r\n\
        mem_clients_normal:600\r\nmem_allocator:jemalloc-5.3.0\r\nallocator_active:12000\r\nrole:master\r\n\
        db0:keys=10,expires=0,avg_ttl=0\r\nrdb_bgsave_in_progress:1\r\n";

    #[test]
    fn figures_are_read_and_tables_told_apart() {
        let figures = Info::parse(TEXT).engine().expect("figures");
        assert_eq!((figures.keys, figures.clients, figures.forked), (10, 600, true));
        assert_eq!(figures.pages.expect("jemalloc").active, 12_000);
        // 2760 = 1000 at start, 600 clients, 10 keys of 56, and 600 of tables.
        assert_eq!(figures.tables(&ASSUMED.layout), 600);
        assert_eq!(figures.keyspace(&ASSUMED.layout), 10_000 - 1_000 - 600 - 600);
    }

    #[test]
    fn a_text_that_is_not_info_gives_nothing() {
        assert_eq!(Info::parse("-LOADING").engine(), None);
    }
}
