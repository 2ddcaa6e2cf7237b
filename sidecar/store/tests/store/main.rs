//! The store against real engines, one engine per test.
#![expect(clippy::expect_used, reason = "helpers of tests: a broken fixture ends the test")]

mod clock;
mod cold;
mod cold_ends;
mod common;
mod copies;
mod damage;
mod ends;
mod faults;
mod following;
mod growth;
mod known;
mod lists;
mod load;
mod marks;
mod metadata;
mod model;
mod model_versions;
mod multipart;
mod multipart_ends;
mod objects;
mod patterns;
mod small;
mod tally;
mod version_ends;
mod version_faults;
mod versions;
