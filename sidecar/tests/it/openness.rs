//! What a bucket opens to everybody and what it denies: policies, blocks of public access, and pages of other origins.

use crate::http::{Answer, Client};
use crate::process::{Dev, assert_status};
use crate::signer::{Signed, element, sha256, signed};

const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::open/pub/*"},
    {"Effect":"Allow","Principal":{"AWS":"*"},"Action":["s3:PutObject"],"Resource":"arn:aws:s3:::open/drop/*"},
    {"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::open/pub/x*"}]}"#;

fn s3_error(answer: &Answer, status: u16, code: &str) {
    assert_status(answer, status, code);
    assert_eq!(element(answer, "Code").as_deref(), Some(code), "{}", answer.text());
}

/// A bucket `open` with a few objects and the policy, and somebody without credentials.
fn opened() -> (Dev, Client) {
    let dev = Dev::with_bucket("open", &[]);
    for path in ["/open/pub/a", "/open/pub/x1", "/open/private", "/open/drop/old"] {
        assert_status(&dev.client.put(path, b"bytes"), 200, path);
    }
    let anyone = Client { token: None, ..dev.client.clone() };
    assert_eq!(anyone.get("/open/pub/a").status, 401, "closed before");
    assert_status(&signed(&dev.client, "PUT", "/open?policy", POLICY.as_bytes()), 204, "the policy");
    (dev, anyone)
}

/// As a client library without keys asks.
const S3: &[(&str, &str)] = &[("amz-sdk-request", "attempt=1")];

#[test]
fn a_policy_opens_what_it_names_and_nothing_else() {
    let (dev, anyone) = opened();
    assert_eq!(anyone.get("/open/pub/a").body, b"bytes");
    assert_eq!(anyone.send("GET", "/open/pub/a", S3, b"").body, b"bytes");
    assert_eq!(anyone.send("HEAD", "/open/pub/a", S3, b"").status, 200);
    assert_status(&anyone.put("/open/drop/new", b"x"), 200, "a write that is opened");
    assert_status(&anyone.send("PUT", "/open/drop/new", S3, b"y"), 200, "and over S3");
    for (method, path) in [
        ("GET", "/open/private"),
        ("GET", "/open/drop/new"),
        ("PUT", "/open/pub/a"),
        ("PUT", "/open/new"),
        ("DELETE", "/open/drop/new"),
        ("DELETE", "/open/pub/a"),
        ("GET", "/open?list-type=2"),
        ("HEAD", "/open"),
        ("DELETE", "/open"),
        ("PUT", "/open"),
    ] {
        let plain = anyone.send(method, path, &[], b"");
        assert!([401, 403].contains(&plain.status), "{method} {path}: {}", plain.status);
        assert_eq!(anyone.send(method, path, S3, b"").status, 403, "{method} {path} over S3");
    }
    // What an opened read does not include.
    for query in ["tagging", "acl", "attributes", "versionId=null", "retention", "legal-hold"] {
        s3_error(&anyone.get(&format!("/open/pub/a?{query}")), 403, "AccessDenied");
    }
    for query in ["policy", "acl", "cors", "versions", "uploads", "location", "policyStatus"] {
        s3_error(&anyone.get(&format!("/open?{query}")), 403, "AccessDenied");
    }
    for (name, value) in
        [("x-blobstore-copy-from", "open/private"), ("x-blobstore-rename-from", "open/private")]
    {
        assert_eq!(anyone.send("PUT", "/open/drop/c", &[(name, value)], b"").status, 401, "{name}");
    }
    assert_eq!(anyone.send("PATCH", "/open/drop/new", &[], b"").status, 401);
    assert_eq!(anyone.send("PUT", "/open/drop/t", &[("x-blobstore-tags", "a=b")], b"").status, 401);
    let tags = [("x-amz-tagging", "a=b")];
    s3_error(&anyone.send("PUT", "/open/drop/t", &tags, b""), 403, "AccessDenied");
    let copy = [("x-amz-copy-source", "open/private")];
    s3_error(&anyone.send("PUT", "/open/drop/c", &copy, b""), 403, "AccessDenied");
    let copy = [("x-amz-copy-source", "open/pub/a")];
    assert_status(&anyone.send("PUT", "/open/drop/c", &copy, b""), 200, "both ends are open");
    dev.stop();
}

#[test]
fn a_denial_wins_over_openings_and_rights() {
    let (dev, anyone) = opened();
    assert_eq!(anyone.get("/open/pub/x1").status, 403, "opened and denied");
    assert_eq!(dev.client.get("/open/pub/x1").status, 403, "to users, too");
    s3_error(&signed(&dev.client, "GET", "/open/pub/x1", b""), 403, "AccessDenied");
    s3_error(&signed(&dev.client, "DELETE", "/open/pub/x1", b""), 403, "AccessDenied");
    let many = b"<Delete><Object><Key>pub/x1</Key></Object><Object><Key>pub/a</Key></Object></Delete>";
    let answer = signed(&dev.client, "POST", "/open?delete", many);
    assert_eq!(element(&answer, "Code").as_deref(), Some("AccessDenied"), "{}", answer.text());
    assert!(answer.text().contains("<Deleted><Key>pub/a</Key></Deleted>"), "{}", answer.text());
    // A version is another matter than the object as it is now, on either lane.
    let versions = POLICY.replace("s3:*", "s3:GetObjectVersion").replace("pub/x*", "*");
    assert_status(
        &signed(&dev.client, "PUT", "/open?policy", versions.as_bytes()),
        204,
        "versions are denied",
    );
    assert_eq!(dev.client.get("/open/pub/x1").status, 200);
    assert_eq!(dev.client.get("/open/pub/x1?versionId=null").status, 403);
    s3_error(&signed(&dev.client, "GET", "/open/pub/x1?versionId=null", b""), 403, "AccessDenied");
    // The bucket's own administration cannot be locked out.
    let all = r#"{"Statement":{"Effect":"Deny","Principal":"*","Action":"s3:*",
        "Resource":["arn:aws:s3:::open","arn:aws:s3:::open/*"]}}"#;
    assert_status(&signed(&dev.client, "PUT", "/open?policy", all.as_bytes()), 204, "a denial of everything");
    s3_error(&signed(&dev.client, "GET", "/open?cors", b""), 403, "AccessDenied");
    assert_eq!(dev.client.get("/open?list-type=2").status, 403);
    assert_eq!(signed(&dev.client, "GET", "/open?policy", b"").body, all.as_bytes());
    assert_status(&signed(&dev.client, "DELETE", "/open?policy", b""), 204, "taken back");
    assert_eq!(dev.client.get("/open/pub/x1").body, b"bytes");
    dev.stop();
}

#[test]
fn who_may_not_list_is_not_told_what_is_there() {
    let (dev, anyone) = opened();
    assert_eq!(anyone.get("/open/pub/none").status, 403);
    assert_eq!(anyone.send("HEAD", "/open/pub/none", S3, b"").status, 403);
    s3_error(&anyone.send("GET", "/open/pub/none", S3, b""), 403, "AccessDenied");
    s3_error(&signed(&dev.client, "GET", "/open/pub/none", b""), 404, "NoSuchKey");
    let listed = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":["s3:GetObject","s3:ListBucket"],
        "Resource":["arn:aws:s3:::open","arn:aws:s3:::open/pub/*"]}}"#;
    assert_status(&signed(&dev.client, "PUT", "/open?policy", listed.as_bytes()), 204, "a list, too");
    assert_eq!(anyone.get("/open/pub/none").status, 404);
    s3_error(&anyone.send("GET", "/open/pub/none", S3, b""), 404, "NoSuchKey");
    assert!(anyone.get("/open?list-type=2").text().contains("private"), "names are listed");
    assert_eq!(anyone.get("/open/private").status, 401, "and no more");
    dev.stop();
}

#[test]
fn a_block_of_public_access_closes_what_a_policy_opened() {
    let (dev, anyone) = opened();
    let block = |policy: bool, restrict: bool| {
        let text = format!(
            "<PublicAccessBlockConfiguration><BlockPublicPolicy>{policy}</BlockPublicPolicy>\
             <RestrictPublicBuckets>{restrict}</RestrictPublicBuckets></PublicAccessBlockConfiguration>"
        );
        assert_status(
            &signed(&dev.client, "PUT", "/open?publicAccessBlock", text.as_bytes()),
            200,
            "a block",
        );
    };
    block(false, true);
    assert_eq!(anyone.get("/open/pub/a").status, 401);
    assert_eq!(dev.client.get("/open/pub/a").status, 200, "users have their rights");
    assert_eq!(dev.client.get("/open/pub/x1").status, 403, "denials stay");
    block(true, false);
    assert_eq!(anyone.get("/open/pub/a").status, 200, "the policy is the old one");
    s3_error(&signed(&dev.client, "PUT", "/open?policy", POLICY.as_bytes()), 403, "AccessDenied");
    let shown = signed(&dev.client, "GET", "/open?publicAccessBlock", b"");
    assert_eq!(element(&shown, "BlockPublicPolicy").as_deref(), Some("true"), "{}", shown.text());
    assert_eq!(element(&shown, "BlockPublicAcls").as_deref(), Some("false"), "{}", shown.text());
    assert_status(&signed(&dev.client, "DELETE", "/open?publicAccessBlock", b""), 204, "no block");
    assert_status(&signed(&dev.client, "PUT", "/open?policy", POLICY.as_bytes()), 204, "a policy again");
    dev.stop();
}

#[test]
fn wrong_credentials_do_not_open_what_none_would() {
    let (dev, anyone) = opened();
    let liar = Client { token: Some("wrong".to_owned()), ..anyone };
    assert_eq!(liar.get("/open/pub/a").status, 401);
    dev.stop();
}

#[test]
fn a_policy_that_cannot_be_followed_is_refused() {
    let dev = Dev::with_bucket("open", &[]);
    let put = |text: &str| signed(&dev.client, "PUT", "/open?policy", text.as_bytes());
    s3_error(&put("no policy"), 400, "MalformedPolicy");
    s3_error(&put(&POLICY.replace(":::open/", ":::other/")), 400, "MalformedPolicy");
    let service = POLICY.replace(r#"{"AWS":"*"}"#, r#"{"Service":"logging.s3.amazonaws.com"}"#);
    s3_error(&put(&service), 501, "NotImplemented");
    let nobody = POLICY.replace(r#"{"AWS":"*"}"#, r#"{"AWS":"arn:aws:iam::1:user/a"}"#);
    s3_error(&put(&nobody), 400, "MalformedPolicy");
    let condition = |text: &str| POLICY.replace(r#""s3:*","#, &format!(r#""s3:*","Condition":{text},"#));
    s3_error(&put(&condition(r#"{"Bool":{"aws:MultiFactorAuthPresent":"true"}}"#)), 501, "NotImplemented");
    s3_error(&put(&condition(r#"{"StringIs":{"s3:prefix":"a"}}"#)), 400, "MalformedPolicy");
    s3_error(&put(&" ".repeat(21 << 10)), 400, "PolicyTooLarge");
    s3_error(&signed(&dev.client, "GET", "/open?policy", b""), 404, "NoSuchBucketPolicy");
    dev.stop();
}

const RULES: &[u8] = b"<CORSConfiguration><CORSRule><AllowedOrigin>https://*.example</AllowedOrigin>\
    <AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod><AllowedHeader>x-amz-*</AllowedHeader>\
    <ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>60</MaxAgeSeconds></CORSRule></CORSConfiguration>";

#[test]
fn pages_of_other_origins_are_told_what_the_rules_allow() {
    let (dev, anyone) = opened();
    let origin = ("origin", "https://a.example");
    let asks = ("access-control-request-method", "PUT");
    let preflight = |more: &[(&str, &str)]| anyone.send("OPTIONS", "/open/pub/a", more, b"");
    assert_eq!(preflight(&[origin, asks]).status, 403, "no rules yet");
    assert_status(&signed(&dev.client, "PUT", "/open?cors", RULES), 200, "the rules");
    let told = preflight(&[origin, asks, ("access-control-request-headers", "x-amz-date")]);
    assert_status(&told, 200, "a preflight");
    assert_eq!(told.header("access-control-allow-origin"), Some("https://a.example"));
    assert_eq!(told.header("access-control-allow-headers"), Some("x-amz-date"));
    assert_eq!(told.header("access-control-max-age"), Some("60"));
    assert_eq!(preflight(&[("origin", "https://evil.test"), asks]).status, 403);
    assert_eq!(preflight(&[origin, ("access-control-request-method", "DELETE")]).status, 403);
    assert_eq!(preflight(&[origin, asks, ("access-control-request-headers", "cookie")]).status, 403);
    assert_eq!(preflight(&[asks]).status, 400, "no browser");
    // Answers carry the headers on either lane, refusals too.
    for more in [&[origin][..], &[origin, S3[0]][..]] {
        let got = anyone.send("GET", "/open/pub/a", more, b"");
        assert_eq!(got.header("access-control-expose-headers"), Some("ETag"), "{more:?}");
        let refused = anyone.send("GET", "/open/private", more, b"");
        assert_eq!(refused.header("access-control-allow-origin"), Some("https://a.example"), "{more:?}");
    }
    let other = anyone.send("GET", "/open/pub/a", &[("origin", "https://evil.test")], b"");
    assert_eq!((other.status, other.header("access-control-allow-origin")), (200, None));
    assert_status(&signed(&dev.client, "DELETE", "/open?cors", b""), 204, "no rules");
    assert_eq!(anyone.send("GET", "/open/pub/a", &[origin], b"").header("access-control-allow-origin"), None);
    dev.stop();
}

const USERS: &str = "
- {name: ann, token: ann-token, accessKey: ANN, secretKey: ann-secret}
- {name: bob, token: bob-token, accessKey: BOB, secretKey: bob-secret}
";
const ANN: (&str, &str) = ("ANN", "ann-secret");
const BOB: (&str, &str) = ("BOB", "bob-secret");

/// A bucket with two objects, two users without rights of their own, and somebody without credentials.
struct Guests {
    dev: Dev,
    ann: Client,
    bob: Client,
    anyone: Client,
}

impl Guests {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("users.yaml");
        std::fs::write(&file, USERS).expect("the users file");
        let dev = Dev::with_bucket("open", &["--users", file.to_str().expect("a path")]);
        let user = |token: Option<&str>| Client { token: token.map(str::to_owned), ..dev.client.clone() };
        let (ann, bob, anyone) = (user(Some("ann-token")), user(Some("bob-token")), user(None));
        for path in ["/open/pub/a", "/open/own/a"] {
            assert_status(&dev.client.put(path, b"bytes"), 200, path);
        }
        Self { dev, ann, bob, anyone }
    }

    fn set(&self, statements: &[&str]) {
        let text = format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","));
        let answer = signed(&self.dev.client, "PUT", "/open?policy", text.as_bytes());
        assert_status(&answer, 204, &text);
    }

    /// A read over S3 by whoever has these keys.
    fn get(&self, who: (&'static str, &str), path: &str, more: &[(&str, &str)]) -> Answer {
        Signed::by(who, "GET", path, &sha256(b""), more).send(&self.dev.client, b"")
    }
}

fn statement(effect: &str, principal: &str, action: &str, path: &str, condition: &str) -> String {
    format!(
        r#"{{"Effect":"{effect}",{principal},"Action":"{action}","Resource":"arn:aws:s3:::open{path}",
            "Condition":{condition}}}"#
    )
}

#[test]
fn a_policy_lets_in_the_users_that_it_names() {
    let guests = Guests::start();
    let Guests { dev, ann, bob, anyone } = &guests;
    let named = r#""Principal":{"AWS":"arn:aws:iam::*:user/ann"}"#;
    let users = r#""Principal":{"AWS":"000000000000"}"#;
    let others = r#""NotPrincipal":{"AWS":["ann","test"]}"#;
    guests.set(&[
        &statement("Allow", named, "s3:GetObject", "/*", "{}"),
        &statement("Allow", users, "s3:PutObject", "/drop/*", "{}"),
        &statement("Deny", others, "s3:PutObject", "/drop/ann/*", "{}"),
    ]);
    assert_eq!((ann.get("/open/pub/a").status, bob.get("/open/pub/a").status), (200, 403));
    assert_eq!(anyone.get("/open/pub/a").status, 401);
    assert_status(&guests.get(ANN, "/open/own/a", &[]), 200, "ann is named");
    s3_error(&guests.get(BOB, "/open/own/a", &[]), 403, "AccessDenied");
    s3_error(&guests.get(ANN, "/open?list-type=2", &[]), 403, "AccessDenied");
    assert_eq!((ann.put("/open/drop/x", b"").status, bob.put("/open/drop/x", b"").status), (200, 200));
    assert_eq!(
        (ann.put("/open/drop/ann/x", b"").status, bob.put("/open/drop/ann/x", b"").status),
        (200, 403)
    );
    assert_eq!(anyone.put("/open/drop/x", b"").status, 401);
    assert_eq!(dev.client.put("/open/drop/ann/y", b"").status, 200, "not among the others");
    let status = signed(&dev.client, "GET", "/open?policyStatus", b"");
    assert_eq!(element(&status, "IsPublic").as_deref(), Some("false"), "users are not everybody");
    guests.dev.stop();
}

#[test]
fn a_policy_asks_about_the_request() {
    let guests = Guests::start();
    let anybody = r#""Principal":"*""#;
    let get = |condition: &str| guests.set(&[&statement("Allow", anybody, "s3:GetObject", "/*", condition)]);
    let opens = |condition: &str, want: bool| {
        get(condition);
        let status = if want { 200 } else { 403 };
        assert_status(
            &guests.get(ANN, "/open/pub/a", &[("referer", "https://a.example/x")]),
            status,
            condition,
        );
        let plain = guests.anyone.send("GET", "/open/pub/a", &[("referer", "https://a.example/x")], b"");
        assert_eq!(plain.status == 200, want, "the plain lane: {condition}");
    };
    opens(r#"{"IpAddress":{"aws:SourceIp":["192.0.2.0/24","127.0.0.0/8"]}}"#, true);
    opens(r#"{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}"#, false);
    opens(r#"{"NotIpAddress":{"aws:SourceIp":"192.0.2.0/24"}}"#, true);
    opens(r#"{"Bool":{"aws:SecureTransport":"true"}}"#, false);
    opens(r#"{"StringLike":{"aws:Referer":"https://a.example/*"}}"#, true);
    opens(r#"{"StringNotLike":{"aws:Referer":"https://a.example/*"}}"#, false);
    opens(r#"{"DateGreaterThan":{"aws:CurrentTime":"2020-01-01T00:00:00Z"}}"#, true);
    opens(r#"{"DateLessThan":{"aws:CurrentTime":"2020-01-01T00:00:00Z"}}"#, false);
    opens(r#"{"StringEquals":{"s3:ExistingObjectTag/level":"open"}}"#, false);
    let tags = b"<Tagging><TagSet><Tag><Key>level</Key><Value>open</Value></Tag></TagSet></Tagging>";
    assert_status(&signed(&guests.dev.client, "PUT", "/open/pub/a?tagging", tags), 200, "a tag");
    opens(r#"{"StringEquals":{"s3:ExistingObjectTag/level":"open"}}"#, true);
    get(r#"{"StringEquals":{"aws:username":"ann"}}"#);
    assert_status(&guests.get(ANN, "/open/pub/a", &[]), 200, "by name");
    s3_error(&guests.get(BOB, "/open/pub/a", &[]), 403, "AccessDenied");
    guests.dev.stop();
}

#[test]
fn a_policy_gives_every_user_a_folder() {
    let guests = Guests::start();
    let users = r#""Principal":{"AWS":"000000000000"}"#;
    let own = r#"{"StringLike":{"s3:prefix":"own/${aws:username}/*"}}"#;
    let whole = r#"{"Null":{"s3:if-none-match":"true"},"Bool":{"s3:ObjectCreationOperation":"true"}}"#;
    guests.set(&[
        &statement("Allow", users, "s3:PutObject", "/own/${aws:username}/*", "{}"),
        &statement("Allow", users, "s3:ListBucket", "", own),
        &statement("Deny", r#""Principal":"*""#, "s3:PutObject", "/own/${aws:PrincipalType}/*", "{}"),
        &statement("Deny", users, "s3:PutObject", "/own/ann/once/*", whole),
    ]);
    let Guests { ann, bob, anyone, .. } = &guests;
    assert_eq!((ann.put("/open/own/ann/x", b"").status, bob.put("/open/own/ann/x", b"").status), (200, 403));
    assert_eq!((ann.put("/open/own/bob/x", b"").status, bob.put("/open/own/bob/x", b"").status), (403, 200));
    assert_eq!(anyone.put("/open/own//x", b"").status, 401, "nobody has no folder");
    assert_eq!(guests.dev.client.put("/open/own/User/x", b"").status, 403, "a denial with a variable");
    assert_eq!(guests.dev.client.put("/open/own/Users/x", b"").status, 200);
    assert_status(&guests.get(ANN, "/open?list-type=2&prefix=own%2Fann%2F", &[]), 200, "her own");
    s3_error(&guests.get(ANN, "/open?list-type=2&prefix=own%2Fbob%2F", &[]), 403, "AccessDenied");
    s3_error(&guests.get(ANN, "/open?list-type=2", &[]), 403, "AccessDenied");
    let put = |more: &[(&str, &str)]| {
        Signed::by(ANN, "PUT", "/open/own/ann/once/x", &sha256(b"x"), more).send(&guests.dev.client, b"x")
    };
    s3_error(&put(&[]), 403, "AccessDenied");
    assert_status(&put(&[("if-none-match", "*")]), 200, "with the condition");
    assert_eq!(ann.put("/open/own/ann/once/y", b"").status, 403, "the plain lane, too");
    guests.dev.stop();
}

#[test]
fn a_policy_asks_how_a_bucket_is_listed_and_filled() {
    let guests = Guests::start();
    let ann = r#""Principal":{"AWS":"ann"}"#;
    let list = r#"{"StringLike":{"s3:prefix":"pub/*"},"NumericLessThanEquals":{"s3:max-keys":"10"}}"#;
    let tagged = r#"{"StringNotEquals":{"s3:RequestObjectTag/team":"blue"}}"#;
    guests.set(&[
        &statement("Allow", ann, "s3:ListBucket", "", list),
        &statement("Allow", ann, "s3:PutObject*", "/*", "{}"),
        &statement("Deny", ann, "s3:PutObject", "/*", tagged),
    ]);
    assert_status(
        &guests.get(ANN, "/open?list-type=2&max-keys=10&prefix=pub%2F", &[]),
        200,
        "as it is allowed",
    );
    for query in
        ["list-type=2&max-keys=11&prefix=pub%2F", "list-type=2&max-keys=10&prefix=own%2F", "max-keys=1"]
    {
        s3_error(&guests.get(ANN, &format!("/open?{query}"), &[]), 403, "AccessDenied");
    }
    let put = |more: &[(&str, &str)]| {
        Signed::by(ANN, "PUT", "/open/new", &sha256(b"x"), more).send(&guests.dev.client, b"x")
    };
    assert_status(&put(&[("x-amz-tagging", "team=blue")]), 200, "with the tag");
    s3_error(&put(&[("x-amz-tagging", "team=red")]), 403, "AccessDenied");
    s3_error(&put(&[]), 403, "AccessDenied");
    guests.dev.stop();
}
