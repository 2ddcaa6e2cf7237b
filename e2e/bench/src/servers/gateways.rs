//! The S3 servers of the comparison: versitygw over files in tmpfs, and MinIO with one drive there.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{Http, START_WAIT_MAX, free_address, listening, memory_folder};
use crate::case::Which;
use crate::child::wait_until;
use crate::load::{Verb, once};
use crate::presign::{ACCESS_KEY, SECRET_KEY};
use crate::{Error, Result};

/// Where `e2e/setup.sh peers` puts them, each in a folder of its name and version.
fn built(name: &str, cache: &std::path::Path) -> Result<PathBuf> {
    let missing =
        || Error::Wrong(format!("{name} is not in {}: run e2e/setup.sh peers first", cache.display()));
    let entries = fs::read_dir(cache).map_err(Error::io(format!("list {}", cache.display())))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{name}-")))
        .map(|entry| entry.path().join(name))
        .filter(|file| file.is_file())
        .collect();
    found.sort();
    found.pop().ok_or_else(missing)
}

pub(crate) fn versitygw(cache: &std::path::Path) -> Result<Http> {
    let program = built("versitygw", cache)?;
    let data = memory_folder("versitygw")?;
    let address = free_address()?;
    let root = data.path().join("root");
    fs::create_dir(&root).map_err(Error::io("create versitygw's root"))?;
    let mut command = Command::new(program);
    command
        .args(["--port", &address.to_string(), "--quiet", "--keep-alive"])
        .env("ROOT_ACCESS_KEY", ACCESS_KEY)
        .env("ROOT_SECRET_KEY", SECRET_KEY)
        // tmpfs has extended attributes of users from Linux 6.6 on; files beside the data work everywhere.
        .arg("posix")
        .args(["--sidecar", &sidecar_folder(&data)?])
        .arg(&root);
    listening(Which::VersityGw, address, data, &mut command)
}

fn sidecar_folder(data: &tempfile::TempDir) -> Result<String> {
    let folder = data.path().join("attributes");
    fs::create_dir(&folder).map_err(Error::io("create versitygw's attributes"))?;
    Ok(folder.display().to_string())
}

pub(crate) fn minio(cache: &std::path::Path) -> Result<Http> {
    let program = built("minio", cache)?;
    let data = memory_folder("minio")?;
    let address = free_address()?;
    let mut command = Command::new(program);
    command
        .args(["server", "--quiet", "--address", &address.to_string(), "--console-address", "127.0.0.1:0"])
        .arg("--config-dir")
        .arg(data.path().join("config"))
        .arg(data.path().join("drive"))
        .env("MINIO_ROOT_USER", ACCESS_KEY)
        .env("MINIO_ROOT_PASSWORD", SECRET_KEY)
        // Drives in memory are refused without it.
        .env("MINIO_CI_CD", "on")
        .env("MINIO_BROWSER", "off");
    let server = listening(Which::MinIo, address, data, &mut command)?;
    // It listens before it serves, and answers 503 until then.
    let serves = || once(address, &Verb::Get, "/minio/health/ready", 0).ok();
    let late = || Error::Wrong("MinIO listens, but did not become ready in time".to_owned());
    wait_until(START_WAIT_MAX, serves).ok_or_else(late)?;
    Ok(server)
}
