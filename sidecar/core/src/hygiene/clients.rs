//! The engine's connections: which hold memory, and which of those may be closed.

/// One line of `CLIENT LIST`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    pub id: u64,
    pub address: String,
    pub name: String,
    pub user: String,
    pub flags: String,
    pub command: String,
    pub idle_seconds: u64,
    /// Everything the connection holds, bytes.
    pub total_bytes: u64,
    /// Replies that wait in its output list.
    pub replies: u64,
    pub subscriptions: u64,
    /// -1 outside MULTI.
    pub transaction: i64,
}

/// Connections of the sidecar carry names that begin so.
pub const OWN_NAME: &str = "blobstore";
/// Most clients one run may close: a wrong finding then costs five reconnects.
pub const KILLS_MAX: usize = 5;
/// Below this a connection is not worth closing: the engine's static buffers alone are 36 KiB.
pub const KILL_BYTES_MIN: u64 = 1 << 20;

/// Lines that are not clients are left out.
pub fn parse(text: &str) -> Vec<Client> {
    text.lines().filter_map(line).collect()
}

fn line(text: &str) -> Option<Client> {
    let mut client = Client { transaction: -1, ..Default::default() };
    for (name, value) in text.split(' ').filter_map(|field| field.split_once('=')) {
        let number = || value.parse().unwrap_or(0);
        match name {
            "id" => client.id = number(),
            "addr" => value.clone_into(&mut client.address),
            "name" => value.clone_into(&mut client.name),
            "user" => value.clone_into(&mut client.user),
            "flags" => value.clone_into(&mut client.flags),
            "cmd" => value.clone_into(&mut client.command),
            "idle" => client.idle_seconds = number(),
            "tot-mem" => client.total_bytes = number(),
            "oll" => client.replies = number(),
            "sub" | "psub" | "ssub" => client.subscriptions += number(),
            "multi" => client.transaction = value.parse().unwrap_or(-1),
            _ => {}
        }
    }
    (client.id > 0).then_some(client)
}

/// Flags that protect: master link, replica, pub/sub, blocked, monitor, transaction, no-evict.
const PROTECTED_FLAGS: [char; 7] = ['M', 'S', 'P', 'b', 'O', 'x', 'e'];

impl Client {
    /// One of the sidecar's own: named so, or its user over the pod's unix socket.
    pub fn own(&self, own_user: &str) -> bool {
        self.name.starts_with(OWN_NAME) || (self.user == own_user && self.flags.contains('U'))
    }

    fn protected(&self, own_user: &str) -> bool {
        self.own(own_user)
            || self.subscriptions > 0
            || self.transaction >= 0
            || self.flags.contains(PROTECTED_FLAGS)
    }

    /// How an operator would name it.
    pub fn described(&self) -> String {
        let Self { id, address, command, total_bytes, replies, idle_seconds, .. } = self;
        format!(
            "client {id} ({address}, last command {command}) holds {total_bytes} bytes, {replies} replies unread, \
             idle {idle_seconds} s"
        )
    }
}

/// Whom to close, biggest first.
pub fn victims<'a>(clients: &'a [Client], own_user: &str) -> Vec<&'a Client> {
    let mut victims: Vec<&Client> = clients
        .iter()
        .filter(|client| client.total_bytes >= KILL_BYTES_MIN && !client.protected(own_user))
        .collect();
    victims.sort_by_key(|client| std::cmp::Reverse((client.total_bytes, client.id)));
    victims.truncate(KILLS_MAX);
    victims
}

#[cfg(test)]
mod tests {
    use super::*;

    fn big(id: u64, rest: &str) -> String {
        format!("id={id} addr=1.2.3.4:5 tot-mem=9000000 oll=3 idle=7 cmd=get {rest}\n")
    }

    #[test]
    fn protected_connections_are_never_victims() {
        let harmless = ["flags=N sub=0 multi=-1", "flags=U user=default"];
        let protected = [
            "flags=M",
            "flags=S",
            "flags=P",
            "flags=b",
            "flags=O",
            "flags=x",
            "flags=e",
            "flags=N sub=1",
            "flags=N multi=2",
            "flags=N name=blobstore-lane",
            "flags=U user=blobstore",
        ];
        let lines: Vec<String> =
            harmless.iter().chain(&protected).zip(1..).map(|(rest, id)| big(id, rest)).collect();
        let clients = parse(&lines.concat());
        assert_eq!(clients.len(), harmless.len() + protected.len());
        let ids: Vec<u64> = victims(&clients, "blobstore").iter().map(|client| client.id).collect();
        assert_eq!(ids, [2, 1]);
    }

    #[test]
    fn the_biggest_go_first_and_few_at_a_time() {
        let text: String =
            (1..=9).map(|id| format!("id={id} tot-mem={} flags=N\n", id * 2_000_000)).collect();
        let clients = parse(&text);
        let ids: Vec<u64> = victims(&clients, "blobstore").iter().map(|client| client.id).collect();
        assert_eq!(ids, [9, 8, 7, 6, 5]);
    }

    #[test]
    fn small_connections_stay() {
        assert!(victims(&parse("id=1 tot-mem=37658 flags=N\n# noise\n"), "blobstore").is_empty());
    }
}
