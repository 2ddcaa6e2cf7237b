//! Quota: a bucket's bytes are leased in blocks from its home to the partitions that hold its objects, so that most
//! writes ask nobody. What a partition has not used is called back before a write is refused.

use blobstore_sidecar_core::{key, partition::tag_of};
use blobstore_sidecar_runtime::authority::Owner;
use redis::cmd;

use crate::{
    BucketInfo, ErrorKind, LeaseAsk, StoreError,
    buckets::no_such_bucket,
    context::{Inner, Target},
    engine::errors,
    scripts,
};

/// Smallest block of quota: smaller ones would cost a question per upload.
const LEASE_BYTES_MIN: u64 = 8 << 20;

impl Inner {
    /// Brings the lease of the object's partition to `needed` bytes.
    pub(crate) async fn lease(
        &self,
        bucket: &BucketInfo,
        target: &Target,
        needed: u64,
    ) -> Result<(), StoreError> {
        let _one_at_a_time = self.buckets.leasing.lock().await;
        let ask = LeaseAsk { bucket: bucket.name.clone(), partition: target.partition, needed, used: needed };
        let mut lease = self.ask_home(&ask).await?;
        if lease < needed {
            self.recall(&ask).await?;
            lease = self.ask_home(&ask).await?;
        }
        if lease < needed {
            let quota = bucket.quota_bytes.unwrap_or(0);
            return Err(StoreError::new(
                ErrorKind::QuotaExceeded,
                format!("bucket {} would exceed its quota of {quota} bytes", bucket.name),
            ));
        }
        let set =
            cmd("HSET").arg(key::sums(target.tag)).arg(format!("l:{}", bucket.name)).arg(lease).to_owned();
        let _added: u64 = self.meta.query("note a lease", &set).await?;
        Ok(())
    }

    async fn ask_home(&self, ask: &LeaseAsk) -> Result<u64, StoreError> {
        match self.authority.owner(self.home(&ask.bucket).slot()) {
            Owner::Here(_) => self.lease_here(ask).await,
            Owner::Peer { .. } | Owner::Nobody => self.options.peers.lease(ask).await,
        }
    }

    /// The home's side: the partition's whole lease, grown if the quota allows. `needed` below the lease gives the
    /// rest back when `used` says so.
    pub(crate) async fn lease_here(&self, ask: &LeaseAsk) -> Result<u64, StoreError> {
        let home = self.home(&ask.bucket);
        let tenure = self.owned(home.slot())?;
        let bucket = key::bucket(home, ask.bucket.as_str());
        let gives_back: &[u8] = if ask.used < ask.needed { b"1" } else { b"0" };
        let wanted = ask.needed.min(ask.used);
        let (partition, wanted) = (ask.partition.to_string(), wanted.to_string());
        let least = LEASE_BYTES_MIN.to_string();
        let args = [partition.as_bytes(), wanted.as_bytes(), least.as_bytes(), gives_back];
        let answer: Vec<String> = self.meta.script(&scripts::LEASE, &[&bucket], &args).await?;
        self.authority.acknowledged(&tenure).await?;
        let lease = answer.get(1).and_then(|text| text.parse().ok());
        match (answer.first().map(String::as_str), lease) {
            (Some("OK" | "SHORT"), Some(lease)) => Ok(lease),
            // The quota was lifted meanwhile: everything is allowed.
            (Some("NONE"), _) => {
                if self.bucket(&ask.bucket, true).await?.quota_bytes.is_some() {
                    return Err(no_such_bucket(&ask.bucket));
                }
                Ok(ask.needed)
            }
            _ => Err(errors::garbage()),
        }
    }

    /// Cuts the leases of all partitions served here down to what they use.
    async fn recall(&self, ask: &LeaseAsk) -> Result<(), StoreError> {
        let partitions = self.options.partitions;
        for partition in 0..partitions {
            let tag = tag_of(partition, partitions);
            if partition == ask.partition || !matches!(self.authority.owner(tag.slot()), Owner::Here(_)) {
                continue;
            }
            let sums = key::sums(tag);
            let left: i64 =
                self.meta.script(&scripts::RECALL, &[&sums], &[ask.bucket.as_str().as_bytes()]).await?;
            if let Ok(used) = u64::try_from(left) {
                let back = LeaseAsk { bucket: ask.bucket.clone(), partition, needed: used + 1, used };
                self.ask_home(&back).await?;
            }
        }
        Ok(())
    }
}
