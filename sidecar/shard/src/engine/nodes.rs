//! `CLUSTER NODES`, line by line.

use blobstore_sidecar_api::topology::NodeView;

/// All lines, and which of them is this node.
pub(crate) fn parse_nodes(text: &str) -> (Option<NodeView>, Vec<NodeView>) {
    let mut own = None;
    let mut others = Vec::new();
    for line in text.lines() {
        match parse_line(line) {
            Some((node, true)) => own = Some(node),
            Some((node, false)) => others.push(node),
            None => {}
        }
    }
    (own, others)
}

/// `<id> <ip:port@bus[,host]> <flags> <primary> <ping> <pong> <epoch> <link> <slot> …`
fn parse_line(line: &str) -> Option<(NodeView, bool)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [id, address, flags, primary, _, _, _, link, slots @ ..] = fields.as_slice() else { return None };
    let flags: Vec<&str> = flags.split(',').collect();
    let ip = address.rsplit_once(':').map(|(ip, _)| ip).unwrap_or_default();
    let node = NodeView {
        node_id: (*id).to_owned(),
        ip: ip.to_owned(),
        primary_id: (*primary != "-").then(|| (*primary).to_owned()),
        failed: flags.contains(&"fail"),
        suspected: flags.contains(&"fail?"),
        handshake: flags.contains(&"handshake"),
        linked: *link == "connected",
        slots: slots.iter().filter_map(|range| parse_range(range)).collect(),
    };
    Some((node, flags.contains(&"myself")))
}

/// `5`, `5-9`; slots on the move (`[…]`) belong to nobody here.
fn parse_range(range: &str) -> Option<[u16; 2]> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    Some([first.parse().ok()?, last.parse().ok()?])
}

/// Every slot of the ranges.
pub(crate) fn slots_of(ranges: &[[u16; 2]]) -> impl Iterator<Item = u16> + '_ {
    ranges.iter().flat_map(|[first, last]| *first..=*last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_itself_a_replica_and_a_failed_primary() {
        let text = "aa 10.0.0.1:6379@16379 myself,master - 0 0 1 connected 0-99 200 [300->-bb]\n\
                    bb 10.0.0.2:6379@16379,host slave aa 0 0 1 connected\n\
                    cc 10.0.0.3:6379@16379 master,fail - 0 0 1 disconnected 100-199\n\
                    dd 10.0.0.4:6379@16379 slave,fail? aa 0 0 1 connected\n";
        let (own, others) = parse_nodes(text);
        assert_eq!(own.expect("itself").slots, vec![[0, 99], [200, 200]]);
        assert_eq!(others[0].primary_id.as_deref(), Some("aa"));
        assert_eq!((others[1].failed, others[1].linked, others[1].ip.as_str()), (true, false, "10.0.0.3"));
        assert!(!others[1].suspected && others[2].suspected && !others[2].failed);
    }
}
