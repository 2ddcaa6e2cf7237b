//! What a Secret's folder holds for one origin. Read from files, so that nothing is in arguments or environment.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use blobstore_sidecar_api::ports;

/// A credential is a line, a certificate bundle or a small JSON document: more is a mistake in the Secret.
const FILE_BYTES_MAX: usize = 64 << 10;

/// Whatever of it there is.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Credentials {
    pub(crate) access_key: Option<String>,
    pub(crate) secret_key: Option<String>,
    pub(crate) session_token: Option<String>,
    pub(crate) service_account: Option<String>,
    pub(crate) account_key: Option<String>,
    pub(crate) sas_token: Option<String>,
    pub(crate) authorization: Option<String>,
    pub(crate) ca: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    pub(crate) async fn read(folder: &Path) -> std::io::Result<Self> {
        let credentials = Self {
            access_key: file(folder, ports::ORIGIN_ACCESS_KEY).await?,
            secret_key: file(folder, ports::ORIGIN_SECRET_KEY).await?,
            session_token: file(folder, ports::ORIGIN_SESSION_TOKEN).await?,
            service_account: file(folder, ports::ORIGIN_SERVICE_ACCOUNT).await?,
            account_key: file(folder, ports::ORIGIN_ACCOUNT_KEY).await?,
            sas_token: file(folder, ports::ORIGIN_SAS_TOKEN).await?,
            authorization: file(folder, ports::ORIGIN_AUTHORIZATION).await?,
            ca: file(folder, ports::ORIGIN_CA).await?,
        };
        // To go on unsigned would show what is public, and hide that the Secret is wrong.
        if credentials == Self::default() {
            let message = format!("{} holds no file that an origin knows", folder.display());
            return Err(std::io::Error::new(ErrorKind::NotFound, message));
        }
        Ok(credentials)
    }
}

async fn file(folder: &Path, name: &str) -> std::io::Result<Option<String>> {
    match tokio::fs::read_to_string(folder.join(name)).await {
        Ok(text) if text.len() > FILE_BYTES_MAX => {
            let message = format!("{name} is larger than {FILE_BYTES_MAX} bytes");
            Err(std::io::Error::new(ErrorKind::InvalidData, message))
        }
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_there_is_read_and_trimmed() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = Credentials::read(folder.path()).await.expect_err("an empty Secret");
        assert!(error.to_string().contains("no file"), "{error}");
        std::fs::write(folder.path().join(ports::ORIGIN_ACCESS_KEY), "key\n").expect("a file");
        let read = Credentials::read(folder.path()).await.expect("a Secret");
        assert_eq!((read.access_key.as_deref(), read.secret_key.as_deref()), (Some("key"), None));
        assert_eq!(format!("{read:?}"), "Credentials");
    }
}
