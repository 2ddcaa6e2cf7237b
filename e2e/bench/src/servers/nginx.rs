//! nginx over files in tmpfs, tuned as its documentation advises for static files; PUT by its WebDAV module.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use super::{Http, free_address, listening, memory_folder, program};
use crate::case::Which;
use crate::{Error, Result};

pub(crate) fn start() -> Result<Http> {
    let data = memory_folder("nginx")?;
    fs::create_dir(data.path().join("root")).map_err(Error::io("create nginx's root"))?;
    let address = free_address()?;
    let config = data.path().join("nginx.conf");
    fs::write(&config, configuration(data.path(), address)).map_err(Error::io("write nginx.conf"))?;
    let mut command = Command::new(program("nginx"));
    command.arg("-p").arg(data.path()).arg("-c").arg(&config);
    command.arg("-e").arg(data.path().join("error.log"));
    listening(Which::Nginx, address, data, &mut command)
}

fn configuration(folder: &Path, address: SocketAddr) -> String {
    // Workers of a root's nginx run as nobody, who may not read our folder; only root may say otherwise.
    let root = fs::metadata("/proc/self").is_ok_and(|data| data.uid() == 0);
    let user = if root { "user root;" } else { "" };
    let at = folder.display();
    // The body of an upload goes to a file of the same file system, and from there by rename.
    format!(
        "{user} daemon off; worker_processes auto; pid {at}/nginx.pid; worker_rlimit_nofile 65536;
events {{ worker_connections 8192; multi_accept on; }}
http {{
  access_log off; error_log {at}/error.log warn; default_type application/octet-stream;
  sendfile on; sendfile_max_chunk 2m; tcp_nopush on; tcp_nodelay on; server_tokens off; etag on;
  keepalive_timeout 300s; keepalive_requests 100000000; reset_timedout_connection on;
  open_file_cache max=10000 inactive=60s; open_file_cache_valid 60s; open_file_cache_min_uses 1;
  client_max_body_size 0; client_body_buffer_size 256k;
  client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
  uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
  server {{ listen {address} backlog=4096; root {at}/root;
    dav_methods PUT DELETE; create_full_put_path on; dav_access user:rw; }}
}}
"
    )
}
