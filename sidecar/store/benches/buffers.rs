//! Ratios within one run, in interleaved rounds: bodies read into the store's own leases of known size beside a `Vec` that
//! grows, and bodies written as the lane to the engine gives them to the kernel beside a copy made for ownership. The other
//! end is a file in memory, so that no engine and no second process decides. Prints a table for `sidecar/BENCHMARKS.md`.
#![expect(clippy::print_stdout, reason = "its report")]

use std::{
    error::Error,
    fs::File,
    hint::black_box,
    io::{self, IoSlice, Read, Seek, SeekFrom, Write},
    path::Path,
    time::{Duration, Instant},
};

use blobstore_sidecar_core::chunk::CHUNK_BYTES;
use blobstore_sidecar_runtime::pool::Pool;
use blobstore_sidecar_store::fuzzing::{Sent, pool};
use bytes::Bytes;

/// As in the sidecar.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ROUNDS: usize = 9;
/// Of one side in one round: thousands of bodies.
const SPAN: Duration = Duration::from_millis(300);
/// The lane's own frames: what a connection brings with one read.
const FRAME_BYTES: usize = 131_040;
const SIZES: [(&str, usize); 2] = [("64 KiB", 64 << 10), ("1 MiB", 1 << 20)];
/// R003-1: known capacity against growth: 1.48 GiB/s over 0.8, and 8.93 over 5.25.
const READ_AIMS: [f64; 2] = [1.85, 1.70];
/// R003-2: MiB per second.
const WRITE_AIMS: [f64; 2] = [152.0, 285.0];

fn main() -> Result<(), Box<dyn Error>> {
    let shm = Path::new("/dev/shm");
    let folder = if shm.is_dir() { tempfile::tempdir_in(shm)? } else { tempfile::tempdir()? };
    println!("| measure | ours | the other way | ratio | aim |\n|---|---|---|---|---|");
    for ((name, bytes), aim) in SIZES.into_iter().zip(READ_AIMS) {
        let mut file = filled(folder.path(), bytes)?;
        let (pool, mut other) = (pool(), file.try_clone()?);
        let rounds = compare(bytes, || leased(&mut file, &pool, bytes), || grown(&mut other, bytes))?;
        let ratio = median(rounds.iter().map(|(ours, theirs)| ours / theirs));
        row(
            &format!("read of {name}: leases of known size, a Vec that grows"),
            &rounds,
            &mark(ratio, aim, ""),
        );
    }
    for ((name, bytes), aim) in SIZES.into_iter().zip(WRITE_AIMS) {
        let mut file = filled(folder.path(), bytes)?;
        let (body, mut other) = (Bytes::from(vec![7; bytes]), file.try_clone()?);
        let rounds = compare(bytes, || shared(&mut file, &body), || cloned(&mut other, &body))?;
        let ours = median(rounds.iter().map(|(ours, _)| *ours));
        row(
            &format!("write of {name}: shared frames, a copy for ownership"),
            &rounds,
            &mark(ours, aim, " MiB/s"),
        );
    }
    Ok(())
}

fn filled(folder: &Path, bytes: usize) -> io::Result<File> {
    let mut file =
        File::options().read(true).write(true).create(true).truncate(true).open(folder.join("body"))?;
    file.write_all(&vec![7; bytes])?;
    Ok(file)
}

/// As the store reads a body: each chunk into a lease of its size, shared, and given back with its last reader.
fn leased(file: &mut File, pool: &Pool, bytes: usize) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    let mut left = bytes;
    while left > 0 {
        let len = left.min(CHUNK_BYTES as usize);
        let mut lease = pool.lease(len, "bench", None);
        file.read_exact(lease.as_mut())?;
        black_box(lease.freeze());
        left -= len;
    }
    Ok(())
}

fn grown(file: &mut File, bytes: usize) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    let mut body = Vec::new();
    file.take(bytes as u64).read_to_end(&mut body)?;
    black_box(Bytes::from(body));
    Ok(())
}

/// As the lane to the engine sends a body: in the frames in which it came.
fn shared(file: &mut File, body: &Bytes) -> io::Result<()> {
    let frames: Vec<Bytes> = (0..body.len())
        .step_by(FRAME_BYTES)
        .map(|at| body.slice(at..body.len().min(at + FRAME_BYTES)))
        .collect();
    send(file, &frames)
}

fn cloned(file: &mut File, body: &Bytes) -> io::Result<()> {
    send(file, &[Bytes::from(body.to_vec())])
}

fn send(file: &mut File, frames: &[Bytes]) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    let mut sent = Sent::value("c:{ab}:07070707070707070707070707070707:0", frames);
    let mut slices = sent.slices();
    let mut slices = slices.as_mut_slice();
    while !slices.is_empty() {
        let written = file.write_vectored(slices)?;
        IoSlice::advance_slices(&mut slices, written);
    }
    Ok(())
}

/// MiB per second of both sides, by round.
fn compare(
    bytes: usize,
    mut ours: impl FnMut() -> io::Result<()>,
    mut other: impl FnMut() -> io::Result<()>,
) -> io::Result<Vec<(f64, f64)>> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        rounds.push((speed(bytes, &mut ours)?, speed(bytes, &mut other)?));
    }
    Ok(rounds)
}

fn speed(bytes: usize, once: &mut impl FnMut() -> io::Result<()>) -> io::Result<f64> {
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < SPAN {
        once()?;
        count += 1;
    }
    Ok(f64::from(count) * bytes as f64 / f64::from(1 << 20) / start.elapsed().as_secs_f64())
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

fn mark(value: f64, aim: f64, unit: &str) -> String {
    format!("{aim}{unit}{}", if value < aim { " (missed)" } else { "" })
}

fn row(name: &str, rounds: &[(f64, f64)], aim: &str) {
    let ours = median(rounds.iter().map(|(ours, _)| *ours));
    let other = median(rounds.iter().map(|(_, other)| *other));
    let ratio = median(rounds.iter().map(|(ours, other)| ours / other));
    println!("| {name} | {ours:.0} MiB/s | {other:.0} MiB/s | **{ratio:.2}** | {aim} |");
}
