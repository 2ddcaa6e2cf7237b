//! Our connection to the engine: one, named, exempt from eviction, with a deadline on every call; opened again
//! when it broke.

use std::time::Duration;

use blobstore_sidecar_store::{EngineAddress, EngineAuth};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo,
    Pipeline, RedisConnectionInfo, Value, cmd,
};
use tokio::sync::Mutex;

use crate::error::HygieneError;

/// An engine that does not answer an INFO for so long is failed over anyway.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Engine {
    address: EngineAddress,
    auth: Option<EngineAuth>,
    open: Mutex<Option<MultiplexedConnection>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Engine {
    pub(crate) fn new(address: EngineAddress, auth: Option<EngineAuth>) -> Self {
        Self { address, auth, open: Mutex::new(None) }
    }

    pub(crate) async fn query<T: FromRedisValue>(
        &self,
        doing: &'static str,
        command: &Cmd,
    ) -> Result<T, HygieneError> {
        let mut connection = self.connection().await?;
        let answer = command.query_async(&mut connection).await;
        self.settle(doing, answer).await
    }

    /// Several commands in one write. One that fails answers an error value and does not spoil the rest.
    pub(crate) async fn pipe(
        &self,
        doing: &'static str,
        pipe: &mut Pipeline,
    ) -> Result<Vec<Value>, HygieneError> {
        let mut connection = self.connection().await?;
        let answer: redis::RedisResult<Vec<Result<Value, redis::RedisError>>> =
            pipe.ignore_errors().query_async(&mut connection).await;
        let answers = self.settle(doing, answer).await?;
        Ok(answers.into_iter().map(|answer| answer.unwrap_or(Value::Nil)).collect())
    }

    /// EVAL with the text: these scripts run a few times an hour, a cache of hashes would save nothing.
    pub(crate) async fn script<T: FromRedisValue>(
        &self,
        doing: &'static str,
        text: &str,
        keys: &[String],
        args: &[Vec<u8>],
    ) -> Result<T, HygieneError> {
        let mut call = cmd("EVAL");
        call.arg(text).arg(keys.len()).arg(keys).arg(args);
        self.query(doing, &call).await
    }

    async fn settle<T>(&self, doing: &'static str, answer: redis::RedisResult<T>) -> Result<T, HygieneError> {
        match answer {
            Ok(value) => Ok(value),
            Err(source) => {
                if source.is_io_error() || source.is_connection_dropped() || source.is_timeout() {
                    *self.open.lock().await = None;
                }
                Err(HygieneError::Engine { doing, source })
            }
        }
    }

    async fn connection(&self) -> Result<MultiplexedConnection, HygieneError> {
        let mut open = self.open.lock().await;
        if let Some(connection) = &*open {
            return Ok(connection.clone());
        }
        let connecting = tokio::time::timeout(TIMEOUT, self.connect()).await;
        let connection = match connecting {
            Ok(Ok(connection)) => connection,
            Ok(Err(source)) => return Err(HygieneError::Engine { doing: "connect to the engine", source }),
            Err(_) => return Err(HygieneError::Slow { doing: "connect to the engine" }),
        };
        *open = Some(connection.clone());
        Ok(connection)
    }

    async fn connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        let address = match &self.address {
            EngineAddress::Unix(path) => ConnectionAddr::Unix(path.clone()),
            EngineAddress::Tcp { host, port } => ConnectionAddr::Tcp(host.clone(), *port),
        };
        let mut settings = RedisConnectionInfo::default();
        if let Some(auth) = &self.auth {
            settings = settings.set_username(&auth.user).set_password(&auth.password);
        }
        let client = Client::open(address.into_connection_info()?.set_redis_settings(settings))?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut hello = redis::pipe();
        hello.cmd("CLIENT").arg("SETNAME").arg("blobstore-hygiene").ignore();
        hello.cmd("CLIENT").arg("NO-EVICT").arg("ON").ignore();
        match hello.query_async::<()>(&mut connection).await {
            // An engine that still loads refuses these; the connection is good all the same.
            Err(error) if error.kind() == ErrorKind::Server(redis::ServerErrorKind::BusyLoading) => {
                Ok(connection)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(connection),
        }
    }
}

/// An integer answer; anything else counts as nothing.
pub(crate) fn integer(value: &Value) -> u64 {
    match value {
        Value::Int(number) => u64::try_from(*number).unwrap_or(0),
        _ => 0,
    }
}

/// A bulk answer; anything else counts as empty.
pub(crate) fn bulk(value: &Value) -> &[u8] {
    match value {
        Value::BulkString(bytes) => bytes,
        _ => &[],
    }
}
