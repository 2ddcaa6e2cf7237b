//! The init container: copies this very binary to where the engine container can run it.

use std::{os::unix::fs::PermissionsExt, path::Path};

/// Copies the running program to `dest/blobstore-sidecar`, whole or not at all.
///
/// # Errors
/// When the program cannot be read or the folder cannot be written.
pub fn run(dest: &Path) -> std::io::Result<()> {
    let target = dest.join("blobstore-sidecar");
    let partial = dest.join(".blobstore-sidecar.partial");
    std::fs::copy(std::env::current_exe()?, &partial)?;
    std::fs::set_permissions(&partial, std::fs::Permissions::from_mode(0o755))?;
    std::fs::rename(&partial, &target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installs_an_executable_copy_of_itself() {
        let dest = tempfile::tempdir().expect("a folder");
        run(dest.path()).expect("a copy");
        let copy = std::fs::metadata(dest.path().join("blobstore-sidecar")).expect("the copy");
        let own = std::env::current_exe().and_then(std::fs::metadata).expect("this program");
        assert_eq!((copy.len(), copy.permissions().mode() & 0o777), (own.len(), 0o755));
    }
}
