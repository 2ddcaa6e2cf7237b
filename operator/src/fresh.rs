//! Random values for what a store's Secret does not hold yet.

use blobstore_operator_core::context::Fresh;

/// 256 bits: beyond guessing, and 64 characters of hex fit every engine's password field.
const SECRET_BYTES: usize = 32;

fn secret() -> String {
    hex::encode(rand::random::<[u8; SECRET_BYTES]>())
}

/// An access key is a name, not a secret: twenty characters, as S3 clients expect.
fn access_key() -> String {
    hex::encode_upper(rand::random::<[u8; 10]>())
}

/// New values for every call, from the operating system's seeded generator.
pub fn fresh() -> Fresh {
    Fresh {
        admin_token: secret(),
        peer_token: secret(),
        engine_password: secret(),
        replication_password: secret(),
        access_key: access_key(),
        secret_key: secret(),
        user_token: secret(),
    }
}
