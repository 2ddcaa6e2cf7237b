//! Orders that hold for a moment only. Whoever carries them out may have stood still in between: the sidecar before it
//! sent them, or the engine with the order in its socket's buffer. So the engine itself looks at the clock, which it
//! shares with the sidecar beside it.

use std::time::{SystemTime, UNIX_EPOCH};

use redis::FromRedisValue;

use super::{Engine, EngineError};

/// ARGV: the last millisecond of the Unix time in which it may still be done, then the command.
const IN_TIME: &str = "local now = redis.call('TIME') \
    if now[1] * 1000 + math.floor(now[2] / 1000) > tonumber(ARGV[1]) then \
    return redis.error_reply('LATE this order was given too long ago') end \
    return redis.call(unpack(ARGV, 2))";

impl Engine {
    /// As `call`, but refused by the engine with `LATE` when it comes to it after `before`.
    pub(super) async fn call_in_time<T: FromRedisValue>(
        &self,
        before: SystemTime,
        name: &'static str,
        arguments: &[&str],
    ) -> Result<T, EngineError> {
        let last = before.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis().to_string();
        let words: Vec<&str> = ["EVAL", IN_TIME, "0", &last].into_iter().chain(name.split(' ')).collect();
        self.send(name, &[&words, arguments].concat()).await
    }
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Child, Command, Stdio},
        time::{Duration, Instant},
    };

    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);
    const LONG: Duration = Duration::from_secs(600);

    /// An engine without peers; ended and waited for when dropped.
    struct Lone {
        child: Child,
        folder: tempfile::TempDir,
    }

    impl Drop for Lone {
        fn drop(&mut self) {
            self.child.kill().expect("killed");
            self.child.wait().expect("waited for");
        }
    }

    impl Lone {
        fn start() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let child = Command::new("redis-server")
                .args(["--port", "0", "--save", "", "--cluster-enabled", "yes", "--bind", "127.0.0.1"])
                // The bus has a port even where the engine listens on a socket alone.
                .args(["--cluster-port", &free_port(), "--unixsocket"])
                .arg(folder.path().join("engine.sock"))
                .arg("--dir")
                .arg(folder.path())
                .stdout(Stdio::null())
                .spawn()
                .expect("redis-server on the PATH");
            Self { child, folder }
        }

        async fn connect(&self) -> Engine {
            let end = Instant::now() + PATIENCE;
            loop {
                match Engine::connect(&self.folder.path().join("engine.sock"), "default", "").await {
                    Ok(engine) => return engine,
                    Err(error) => assert!(Instant::now() < end, "{error}"),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }

        fn signal(&self, signal: Signal) {
            kill(Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")), signal).expect("a signal");
        }
    }

    fn free_port() -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("its address").port().to_string()
    }

    /// A machine with too much to do is silent, too: asked until the engine answers.
    async fn answered<T>(mut ask: impl AsyncFnMut() -> Result<T, EngineError>) -> Result<T, EngineError> {
        let end = Instant::now() + PATIENCE;
        loop {
            match ask().await {
                Err(EngineError::Silent(_)) if Instant::now() < end => {}
                answer => return answer,
            }
        }
    }

    async fn epoch(engine: &Engine) -> String {
        let info =
            answered(async || engine.call::<String>("CLUSTER INFO", &[]).await).await.expect("an answer");
        let line = info.lines().find(|line| line.starts_with("cluster_current_epoch:"));
        line.expect("the engine's epoch").trim().to_owned()
    }

    #[tokio::test]
    async fn an_order_that_waited_in_a_frozen_engine_is_refused_when_it_thaws() {
        let lone = Lone::start();
        let engine = lone.connect().await;
        let before = epoch(&engine).await;
        lone.signal(Signal::SIGSTOP);
        let now = SystemTime::now() + Duration::from_millis(500);
        let asked = engine.call_in_time::<String>(now, "CLUSTER BUMPEPOCH", &[]).await;
        assert!(matches!(asked, Err(EngineError::Silent("CLUSTER BUMPEPOCH"))), "{asked:?}");
        lone.signal(Signal::SIGCONT);
        // Answered in order: whatever waited has been dealt with.
        assert_eq!(epoch(&engine).await, before);

        let late = SystemTime::now() - Duration::from_millis(500);
        let refused =
            answered(async || engine.call_in_time::<String>(late, "CLUSTER BUMPEPOCH", &[]).await).await;
        let Err(EngineError::Command { source, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(source.code(), Some("LATE"), "{source}");
        assert_eq!(epoch(&engine).await, before);

        let in_time = SystemTime::now() + LONG;
        answered(async || engine.call_in_time::<String>(in_time, "CLUSTER BUMPEPOCH", &[]).await)
            .await
            .expect("an order in time");
        assert_ne!(epoch(&engine).await, before);
    }
}
