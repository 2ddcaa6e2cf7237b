//! Writes an OCI image archive FROM scratch: one layer of files with the libraries they need, no daemon
//! and no base image. The same files give the same digest, so an image is loaded only when it changed.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    error::{Error, Result},
    paths, process,
};

/// Owner of every process in our images; not root, and no name on any host.
const USER: &str = "65532:65532";
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
/// Below a root.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const PASSWD: &str =
    "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/data:/sbin/nologin\n";

#[derive(Debug, Clone)]
pub struct Image {
    /// With its tag, such as `localhost/blobstore-sidecar:e2e`.
    pub name: String,
    pub files: Vec<File>,
    /// Where another Debian's libraries are, and the programs that need them; without it both are this machine's.
    pub root: Option<PathBuf>,
    pub entrypoint: Vec<String>,
    /// `NAME=value`, beside the `PATH` that all have.
    pub env: Vec<String>,
    /// Shown by `/etc/image-release`; two images of the same files under two releases differ.
    pub release: String,
}

#[derive(Debug, Clone)]
pub struct File {
    pub from: PathBuf,
    /// Absolute path in the image.
    pub to: String,
}

impl File {
    pub fn new(from: impl Into<PathBuf>, to: &str) -> Self {
        Self { from: from.into(), to: to.to_owned() }
    }
}

struct Blob {
    digest: String,
    size: u64,
}

/// Writes the archive and returns the digest of its manifest.
pub async fn write(image: &Image, archive: &Path) -> Result<String> {
    let work = tempfile::tempdir().map_err(Error::io("make a folder for", archive))?;
    let root = work.path().join("root");
    stage(image, &root).await?;
    let layer = work.path().join("layer.tar");
    tar(&root, &layer).await?;
    let out = work.path().join("archive");
    let layer = add_file(&out, &layer)?;
    let path = "PATH=/usr/local/bin:/usr/bin:/bin".to_owned();
    let env: Vec<&String> = std::iter::once(&path).chain(&image.env).collect();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": image.entrypoint,
            "User": USER,
            "Env": env,
            "WorkingDir": "/data",
        },
        "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
    });
    let config = add(&out, config.to_string().as_bytes())?;
    let kind = |kind: &str| format!("application/vnd.oci.image.{kind}");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": kind("manifest.v1+json"),
        "config": { "mediaType": kind("config.v1+json"), "digest": config.digest, "size": config.size },
        "layers": [{ "mediaType": kind("layer.v1.tar"), "digest": layer.digest, "size": layer.size }],
    });
    let manifest = add(&out, manifest.to_string().as_bytes())?;
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": kind("manifest.v1+json"),
            "digest": manifest.digest,
            "size": manifest.size,
            "annotations": { "io.containerd.image.name": image.name },
            "platform": { "os": "linux", "architecture": "amd64" },
        }],
    });
    paths::write(&out.join("index.json"), index.to_string())?;
    paths::write(&out.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    if let Some(folder) = archive.parent() {
        paths::make_folder(folder)?;
    }
    tar(&out, archive).await?;
    Ok(manifest.digest)
}

async fn stage(image: &Image, root: &Path) -> Result<()> {
    for file in &image.files {
        copy(&file.from, &root.join(file.to.trim_start_matches('/')))?;
        for library in libraries(&file.from, image.root.as_deref()).await? {
            let place = library.strip_prefix(image.root.as_deref().unwrap_or(Path::new("/")));
            copy(&library, &root.join(place.unwrap_or(&library)))?;
        }
    }
    paths::write(&root.join("etc/passwd"), PASSWD)?;
    paths::write(&root.join("etc/image-release"), &image.release)?;
    for folder in ["tmp", "data"] {
        let folder = root.join(folder);
        paths::make_folder(&folder)?;
        std::fs::set_permissions(&folder, Permissions::from_mode(0o1777))
            .map_err(Error::io("open to all", &folder))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        paths::make_folder(folder)?;
    }
    std::fs::copy(from, to).map_err(Error::io("copy", from))?;
    std::fs::set_permissions(to, Permissions::from_mode(0o755)).map_err(Error::io("make executable", to))
}

/// The shared libraries of a program with its loader, where the program looks for them.
async fn libraries(program: &Path, root: Option<&Path>) -> Result<Vec<PathBuf>> {
    let program = program.display().to_string();
    let Some(root) = root else {
        // ldd ends with an error for a static program: then there are none.
        let list = process::run("ldd", &[&program]).await.unwrap_or_default();
        return Ok(named_in(&list).collect());
    };
    let loader = root.join(LOADER.trim_start_matches('/'));
    let folder = root.join(LIBRARIES).display().to_string();
    let options = ["--library-path", &folder, "--list", &program];
    let list = process::run(&loader.display().to_string(), &options).await?;
    // The list names this machine's loader: what the program asks for, not what was started.
    Ok(named_in(&list).filter(|path| path.starts_with(root)).chain([loader]).collect())
}

fn named_in(list: &str) -> impl Iterator<Item = PathBuf> {
    list.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from)
}

/// Same names, owners and times whoever builds: the digest depends on the contents alone.
async fn tar(folder: &Path, to: &Path) -> Result<()> {
    let (folder, to) = (folder.display().to_string(), to.display().to_string());
    let stable = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "--format=ustar"];
    process::run("tar", &[stable.as_slice(), &["-cf", &to, "-C", &folder, "."]].concat()).await?;
    Ok(())
}

fn add_file(out: &Path, file: &Path) -> Result<Blob> {
    let contents = std::fs::read(file).map_err(Error::io("read", file))?;
    add(out, &contents)
}

fn add(out: &Path, contents: &[u8]) -> Result<Blob> {
    let digest = hex::encode(Sha256::digest(contents));
    paths::write(&out.join("blobs/sha256").join(&digest), contents)?;
    let size = contents.len() as u64;
    Ok(Blob { digest: format!("sha256:{digest}"), size })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn digest_of(contents: &str) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("program");
        std::fs::write(&file, contents).expect("a file");
        let image = Image {
            name: "localhost/test:e2e".to_owned(),
            files: vec![File::new(&file, "/program")],
            root: None,
            entrypoint: vec!["/program".to_owned()],
            env: vec![],
            release: "test".to_owned(),
        };
        write(&image, &folder.path().join("image.tar")).await.expect("an archive")
    }

    #[tokio::test]
    async fn digest_depends_on_the_contents_alone() {
        assert_eq!(digest_of("one").await, digest_of("one").await);
        assert_ne!(digest_of("one").await, digest_of("two").await);
    }

    #[tokio::test]
    async fn dynamic_program_brings_its_loader() {
        let libraries = libraries(Path::new("/bin/sh"), None).await.expect("ldd runs");
        assert!(libraries.iter().any(|path| path.to_string_lossy().contains("ld-linux")), "{libraries:?}");
    }
}
