//! Certificates of the cluster, made by openssl: one authority, one certificate per component, so that
//! the Node authorizer and RBAC apply as on a real cluster.

use std::path::Path;

use tokio::process::Command;

use crate::{
    error::Result,
    net,
    paths::{self, Paths},
    process,
};

/// A cluster is for a day's work; a state folder older than this is made anew by `up`.
const DAYS: &str = "365";

struct Certificate {
    file: String,
    subject: String,
    names: String,
}

fn certificates(nodes: u8) -> Vec<Certificate> {
    let plain = |file: &str, subject: &str| Certificate {
        file: file.to_owned(),
        subject: subject.to_owned(),
        names: "DNS:localhost".to_owned(),
    };
    let mut all = vec![
        Certificate {
            file: "apiserver".to_owned(),
            subject: "/CN=kube-apiserver".to_owned(),
            names: format!(
                "IP:{},IP:{},IP:127.0.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,\
                 DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local",
                net::host(),
                net::API_SERVICE
            ),
        },
        plain("admin", "/O=system:masters/CN=admin"),
        plain("kube-controller-manager", "/CN=system:kube-controller-manager"),
        plain("kube-scheduler", "/CN=system:kube-scheduler"),
        plain("kube-proxy", "/CN=system:kube-proxy"),
    ];
    all.extend((1..=nodes).map(|node| Certificate {
        file: format!("node-{node}"),
        subject: format!("/O=system:nodes/CN=system:node:node-{node}"),
        names: format!("IP:{},DNS:node-{node}", net::node_address(node)),
    }));
    all
}

/// Makes the authority, the certificates, the service account key and a kubeconfig for each user.
pub async fn make(paths: &Paths, nodes: u8) -> Result<()> {
    paths::make_folder(&paths.state.join("pki"))?;
    let name = "/CN=blobstore-e2e";
    key(paths, "ca.key").await?;
    openssl(paths, "ca.crt", &["req", "-x509", "-new", "-key", "ca.key", "-subj", name, "-days", DAYS])
        .await?;
    openssl(paths, "sa.key", &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]).await?;
    openssl(paths, "sa.pub", &["rsa", "-in", "sa.key", "-pubout"]).await?;
    let signed = certificates(nodes).into_iter().map(|certificate| sign(paths, certificate));
    futures::future::try_join_all(signed).await?;
    kubeconfig(paths, "admin", &paths.kubeconfig())?;
    for user in ["kube-controller-manager", "kube-scheduler", "kube-proxy"] {
        kubeconfig(paths, user, &paths.pki(&format!("{user}.kubeconfig")))?;
    }
    for node in 1..=nodes {
        let user = format!("node-{node}");
        kubeconfig(paths, &user, &paths.pki(&format!("{user}.kubeconfig")))?;
    }
    Ok(())
}

async fn sign(paths: &Paths, certificate: Certificate) -> Result<()> {
    let Certificate { file, subject, names } = certificate;
    let [key_file, request, extensions, certificate] =
        ["key", "csr", "ext", "crt"].map(|suffix| format!("{file}.{suffix}"));
    key(paths, &key_file).await?;
    openssl(paths, &request, &["req", "-new", "-key", &key_file, "-subj", &subject]).await?;
    let text = format!("extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName={names}\n");
    paths::write(&paths.pki(&extensions), text)?;
    // Random serials: the certificates are signed side by side, and a shared serial file would race.
    let serial = format!("0x{:016x}", rand::random::<u64>() >> 1);
    let authority = ["x509", "-req", "-in", &request, "-CA", "ca.crt", "-CAkey", "ca.key"];
    let terms = ["-set_serial", &serial, "-days", DAYS, "-extfile", &extensions];
    openssl(paths, &certificate, &[authority.as_slice(), &terms].concat()).await
}

async fn key(paths: &Paths, file: &str) -> Result<()> {
    openssl(paths, file, &["ecparam", "-name", "prime256v1", "-genkey", "-noout"]).await
}

/// One openssl command in the folder of the certificates, its output to the file.
async fn openssl(paths: &Paths, file: &str, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args(arguments).args(["-out", file]).current_dir(paths.state.join("pki"));
    process::output(command).await?;
    Ok(())
}

fn kubeconfig(paths: &Paths, user: &str, to: &Path) -> Result<()> {
    let file = |name: String| paths.pki(&name).display().to_string();
    let text = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "e2e", "cluster": {
            "server": format!("https://{}:6443", net::host()),
            "certificate-authority": file("ca.crt".to_owned()),
        }}],
        "users": [{ "name": user, "user": {
            "client-certificate": file(format!("{user}.crt")),
            "client-key": file(format!("{user}.key")),
        }}],
        "contexts": [{ "name": "e2e", "context": { "cluster": "e2e", "user": user } }],
        "current-context": "e2e",
    });
    paths::write(to, format!("{text:#}\n"))
}
