//! The local engine over its unix socket. A connection belongs to one run: when the process is replaced, the
//! connection breaks, and nothing meant for one run can reach the next.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo,
    RedisConnectionInfo, aio::MultiplexedConnection,
};

mod commands;
mod in_time;
mod nodes;

pub(crate) use commands::{Assume, Follow, break_link, close_replication};
pub(crate) use nodes::{parse_nodes, slots_of};

/// An engine that needs longer for one administrative answer counts as not answering; its longest own pause that we
/// allow (a batch of frees) is a hundredth of this.
const ANSWER_WITHIN: Duration = Duration::from_millis(2_000);

#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error("connect to the engine")]
    Connect(#[source] redis::RedisError),
    #[error("{command}")]
    Command {
        command: &'static str,
        #[source]
        source: redis::RedisError,
    },
    #[error("the engine did not answer {0}")]
    Silent(&'static str),
    #[error("{0}")]
    Unexpected(String),
}

/// A connection to one run of the engine.
#[derive(Clone)]
pub(crate) struct Engine {
    connection: MultiplexedConnection,
    pub(crate) run_id: Arc<str>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.run_id)
    }
}

impl Engine {
    pub(crate) async fn connect(socket: &Path, user: &str, password: &str) -> Result<Self, EngineError> {
        let settings = RedisConnectionInfo::default().set_username(user).set_password(password);
        let info = ConnectionAddr::Unix(socket.to_owned())
            .into_connection_info()
            .map_err(EngineError::Connect)?
            .set_redis_settings(settings);
        let client = Client::open(info).map_err(EngineError::Connect)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_WITHIN))
            .set_response_timeout(Some(ANSWER_WITHIN));
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(EngineError::Connect)?;
        let mut engine = Self { connection, run_id: Arc::from("") };
        let info = engine.info("server").await?;
        engine.run_id = Arc::from(info.get("run_id").map(String::as_str).unwrap_or_default());
        Ok(engine)
    }

    pub(crate) async fn call<T: FromRedisValue>(
        &self,
        name: &'static str,
        arguments: &[&str],
    ) -> Result<T, EngineError> {
        let words: Vec<&str> = name.split(' ').collect();
        self.send(name, &[&words, arguments].concat()).await
    }

    async fn send<T: FromRedisValue>(&self, name: &'static str, words: &[&str]) -> Result<T, EngineError> {
        let mut command = Cmd::new();
        command.arg(words);
        let mut connection = self.connection.clone();
        command.query_async(&mut connection).await.map_err(|source| {
            if source.is_timeout() {
                EngineError::Silent(name)
            } else {
                EngineError::Command { command: name, source }
            }
        })
    }

    pub(crate) async fn info(&self, section: &str) -> Result<Info, EngineError> {
        self.call::<String>("INFO", &[section]).await.map(|text| parse_info(&text))
    }

    /// Marker, offset, wait, acknowledgements: in one pipeline, in this order.
    pub(crate) async fn round(
        &self,
        marker_key: &str,
        replicas: usize,
        wait: Duration,
    ) -> Result<(Info, Info), EngineError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("EVAL").arg(MARKER).arg(1).arg(marker_key).ignore();
        pipeline.cmd("INFO").arg("replication");
        pipeline.cmd("WAIT").arg(replicas).arg(wait.as_millis().max(1).to_string()).ignore();
        pipeline.cmd("INFO").arg("replication");
        let mut connection = self.connection.clone();
        let (offset, acks): (String, String) = pipeline
            .query_async(&mut connection)
            .await
            .map_err(|source| EngineError::Command { command: "marker", source })?;
        Ok((parse_info(&offset), parse_info(&acks)))
    }
}

/// A write that must get through when memory is full: what frees memory waits for its acknowledgement, too.
/// It leaves no key behind.
const MARKER: &str =
    "#!lua flags=allow-oom\nredis.call('SET', KEYS[1], '')\nreturn redis.call('DEL', KEYS[1])";

pub(crate) type Info = BTreeMap<String, String>;

fn parse_info(text: &str) -> Info {
    let line = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.to_owned()));
    text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect()
}

/// A number of INFO; 0 when the engine does not say.
pub(crate) fn number(info: &Info, name: &str) -> u64 {
    info.get(name).and_then(|value| value.parse().ok()).unwrap_or_default()
}

/// `slaveN:ip=<run id>,port=…,state=online,offset=…,lag=…`: replicas announce their run id in place of an address.
pub(crate) fn replicas(info: &Info) -> Vec<(String, u64)> {
    let field = |line: &str, name: &str| {
        line.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };
    let is_replica = |name: &str| {
        name.strip_prefix("slave").is_some_and(|index| index.bytes().all(|byte| byte.is_ascii_digit()))
    };
    info.iter()
        .filter(|(name, line)| is_replica(name) && field(line, "state").as_deref() == Some("online"))
        .filter_map(|(_, line)| Some((field(line, "ip")?, field(line, "offset")?.parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_online_replicas_acknowledge() {
        let info = parse_info(
            "# Replication\r\nrole:master\r\nslave0:ip=abc,port=6379,state=online,offset=17,lag=0\r\n\
             slave1:ip=def,port=6379,state=wait_bgsave,offset=0,lag=0\r\nslave_priority:100\r\n",
        );
        assert_eq!(replicas(&info), vec![("abc".to_owned(), 17)]);
    }
}
