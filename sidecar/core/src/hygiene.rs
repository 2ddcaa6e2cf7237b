//! Hygiene: where the engine's bytes are, and which of them nobody owns. Pure: samples, shapes and times come in
//! as arguments; a verdict with evidence goes out. The effects live in `blobstore-sidecar-hygiene`.

pub mod allocator;
pub mod audit;
pub mod book;
pub mod calibrate;
pub mod clients;
pub mod detector;
pub mod explain;
pub mod findings;
pub mod gates;
pub mod growth;
pub mod info;
pub mod largest;
pub mod layout;
pub mod residual;
pub mod sample;
pub mod size_model;
pub mod statistics;
