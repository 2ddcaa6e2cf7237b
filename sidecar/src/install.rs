//! `install`: copies this very binary into the folder that the pod's containers share, so that the engine's
//! unchanged image can start it as its launcher. Atomic: nobody ever sees half a file.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Name of the copy.
pub const NAME: &str = "blobstore-sidecar";
/// Readable and executable by whatever user the engine's image runs as.
const MODE: u32 = 0o755;

#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("find this program's own file")]
    Self_(#[source] io::Error),
    #[error("copy {from} to {to}")]
    Copy {
        from: PathBuf,
        to: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Copies, makes it executable, renames it into place; again is fine.
pub fn install(folder: &Path) -> Result<PathBuf, InstallError> {
    // Not `current_exe`: the link still reads right when the file was replaced.
    let from = fs::read_link("/proc/self/exe").map_err(InstallError::Self_)?;
    let to = folder.join(NAME);
    let part = folder.join(format!(".{NAME}.{}", std::process::id()));
    let copy = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::copy("/proc/self/exe", &part)?;
        fs::set_permissions(&part, fs::Permissions::from_mode(MODE))?;
        fs::File::open(&part)?.sync_all()?;
        fs::rename(&part, &to)
    };
    copy().map_err(|source| InstallError::Copy { from, to: to.clone(), source })?;
    Ok(to)
}
