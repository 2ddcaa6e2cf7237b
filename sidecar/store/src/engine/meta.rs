//! The `redis` crate's multiplexed connection, opened when needed and dropped when it breaks. Scripts, listings,
//! buckets, the sweeper: everything without payload. Its futures are large (3 KB), so each is boxed where it is asked: or
//! every task that may ask something would be as large, whether it does or not.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, aio::MultiplexedConnection,
};
use tokio::sync::Mutex;

use super::errors;
use crate::{EngineAddress, EngineAuth, ErrorKind, StoreError, scripts::Script};

#[derive(Debug)]
pub(crate) struct Meta {
    address: EngineAddress,
    auth: Option<EngineAuth>,
    timeout: Duration,
    /// The connection and its number: a late error must not drop its successor.
    open: Mutex<(u64, Option<Opened>)>,
}

#[derive(Clone)]
struct Opened(MultiplexedConnection);

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MultiplexedConnection")
    }
}

impl Meta {
    pub(crate) fn new(address: EngineAddress, auth: Option<EngineAuth>, timeout: Duration) -> Self {
        Self { address, auth, timeout, open: Mutex::new((0, None)) }
    }

    pub(crate) async fn query<T: FromRedisValue>(&self, doing: &str, cmd: &Cmd) -> Result<T, StoreError> {
        let (number, mut connection) = self.connection().await?;
        let answer = Box::pin(cmd.query_async(&mut connection)).await;
        self.settle(doing, number, answer).await
    }

    /// Several commands in one write; errors of any fail all.
    pub(crate) async fn pipe<T: FromRedisValue>(
        &self,
        doing: &str,
        pipe: &Pipeline,
    ) -> Result<T, StoreError> {
        let (number, mut connection) = self.connection().await?;
        let answer = Box::pin(pipe.query_async(&mut connection)).await;
        self.settle(doing, number, answer).await
    }

    /// EVALSHA; after NOSCRIPT the script is loaded and tried again.
    pub(crate) async fn script<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[&str],
        args: &[&[u8]],
    ) -> Result<T, StoreError> {
        let (number, mut connection) = self.connection().await?;
        let mut call = script.redis.prepare_invoke();
        for key in keys {
            call.key(*key);
        }
        for arg in args {
            call.arg(*arg);
        }
        let answer = Box::pin(call.invoke_async(&mut connection)).await;
        self.settle(script.name, number, answer).await
    }

    /// Drops the connection; the next use opens a new one.
    pub(crate) async fn close(&self) {
        self.open.lock().await.1 = None;
    }

    async fn settle<T>(
        &self,
        doing: &str,
        number: u64,
        answer: redis::RedisResult<T>,
    ) -> Result<T, StoreError> {
        match answer {
            Ok(value) => Ok(value),
            Err(error) => {
                let broken = error.is_io_error() || error.is_connection_dropped() || error.is_timeout();
                if broken {
                    let mut open = self.open.lock().await;
                    if open.0 == number {
                        open.1 = None;
                    }
                }
                Err(errors::redis(doing, error))
            }
        }
    }

    async fn connection(&self) -> Result<(u64, MultiplexedConnection), StoreError> {
        let mut open = self.open.lock().await;
        if let Some(Opened(connection)) = &open.1 {
            return Ok((open.0, connection.clone()));
        }
        let connection = Box::pin(self.connect()).await?;
        open.0 += 1;
        open.1 = Some(Opened(connection.clone()));
        Ok((open.0, connection))
    }

    async fn connect(&self) -> Result<MultiplexedConnection, StoreError> {
        let address = match &self.address {
            EngineAddress::Unix(path) => ConnectionAddr::Unix(path.clone()),
            EngineAddress::Tcp { host, port } => ConnectionAddr::Tcp(host.clone(), *port),
        };
        let mut settings = RedisConnectionInfo::default();
        if let Some(auth) = &self.auth {
            settings = settings.set_username(&auth.user).set_password(&auth.password);
        }
        let info = address.into_connection_info().map_err(|error| errors::redis("connect", error))?;
        let client = Client::open(info.set_redis_settings(settings))
            .map_err(|error| errors::redis("connect", error))?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        match tokio::time::timeout(self.timeout, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => {
                let error = errors::redis("connect", error);
                Err(if error.kind == ErrorKind::Protocol {
                    StoreError::new(ErrorKind::EngineDown, error.message)
                } else {
                    error
                })
            }
            Err(_) => Err(errors::timeout("connect")),
        }
    }
}
