//! Waiting on a condition with a deadline: the only way anything in the harness waits.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

use crate::error::{Error, Result};

/// How often a condition is looked at. Each look costs a request or a file read; at 5 a second three
/// hundred waits at once still stay below what one API server answers without noticing.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// No single look may outlast this: a hung connection must not eat the whole deadline silently.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// What one look found: the value waited for, or why it is not there yet.
#[derive(Debug)]
pub enum Seen<T> {
    Yes(T),
    NotYet(String),
}

impl<T> Seen<T> {
    pub fn when(held: bool, value: T, otherwise: impl FnOnce() -> String) -> Self {
        if held { Self::Yes(value) } else { Self::NotYet(otherwise()) }
    }
}

/// Looks until the condition holds. An error of a look counts as "not yet" and is shown at the deadline.
pub async fn until<T, F, Fut>(what: impl Into<String>, limit: Duration, look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Seen<T>>>,
{
    until_slow(what, limit, LOOK_LIMIT, look).await
}

/// As `until`, where one look moves megabytes and may take longer.
pub async fn until_slow<T, F, Fut>(
    what: impl Into<String>,
    limit: Duration,
    look_limit: Duration,
    mut look: F,
) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Seen<T>>>,
{
    let deadline = Instant::now() + limit;
    loop {
        let last = match tokio::time::timeout(look_limit, look()).await {
            Ok(Ok(Seen::Yes(value))) => return Ok(value),
            Ok(Ok(Seen::NotYet(reason))) => reason,
            Ok(Err(error)) => error.chain(),
            Err(_) => format!("one look took longer than {} s", look_limit.as_secs()),
        };
        if Instant::now() >= deadline {
            return Err(Error::Deadline { what: what.into(), limit, last });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn deadline_names_what_was_last_seen() {
        let limit = Duration::from_secs(3);
        let error = until("pods ready", limit, || async { Ok(Seen::<()>::NotYet("1 of 2".to_owned())) })
            .await
            .expect_err("the condition never holds");
        assert_eq!(error.to_string(), "not within 3 s: pods ready\nlast seen: 1 of 2");
    }

    #[tokio::test(start_paused = true)]
    async fn error_of_one_look_is_not_the_end() {
        let mut looks = 0;
        let found = until("third look", Duration::from_secs(9), || {
            looks += 1;
            let result =
                if looks < 3 { Err(Error::Wrong("refused".to_owned())) } else { Ok(Seen::Yes(looks)) };
            async { result }
        })
        .await;
        assert_eq!(found.expect("the third look succeeds"), 3);
    }
}
