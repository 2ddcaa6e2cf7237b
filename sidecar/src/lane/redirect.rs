//! `Prefer: redirect` (RFC 7240): a client that can reach every pod is sent to the owner, and saves a hop. Whoever does
//! not ask for it, or whose owner cannot be told, is served through this pod.

use std::net::SocketAddr;

use http::header::{CACHE_CONTROL, HeaderName, HeaderValue, LOCATION};
use http::{Response, StatusCode};

use super::{Exchange, Side};
use crate::body::Body;
use crate::wire::{HEALTH_PATH, Health};

const PREFER: HeaderName = HeaderName::from_static("prefer");
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const REDIRECT: &str = "redirect";

/// 307 to where the owner, whose peer port is `address`, serves clients.
pub(super) async fn to_owner(exchange: &Exchange<'_>, address: &str) -> Option<Response<Body>> {
    if exchange.side != Side::Client || !is_preferred(exchange) {
        return None;
    }
    let asked = exchange.shell.peering.call::<(), Health>(address, HEALTH_PATH, None).await;
    let client = asked.ok()?.client?;
    let mut owner: SocketAddr = address.parse().ok()?;
    owner.set_port(client.port);
    let scheme = if client.tls { "https" } else { "http" };
    let path = exchange.head.uri.path_and_query()?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_str(&format!("{scheme}://{owner}{path}")).ok()?);
    headers.insert(APPLIED, HeaderValue::from_static(REDIRECT));
    // Owners change.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(response)
}

fn is_preferred(exchange: &Exchange<'_>) -> bool {
    let values = exchange.head.headers.get_all(PREFER);
    let preferences = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    let names = preferences.map(|preference| preference.split(';').next().unwrap_or_default().trim());
    names.into_iter().any(|name| name.eq_ignore_ascii_case(REDIRECT))
}
