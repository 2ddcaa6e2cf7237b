//! What policies say, by whole documents.

use super::*;

const READ: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Allow","Principal":{"AWS":["*"]},"Action":["s3:GetObject"],"Resource":"arn:aws:s3:::b/pub/*"},
    {"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::b/pub/x*"]}]}"#;

fn check(text: &str, action: &str, key: &str, want: Verdict) {
    let policy = Policy::parse(text, "b").expect("a policy");
    let deed = Deed { user: None, action, bucket: "b", key, facts: &[] };
    assert_eq!(policy.verdict(deed, false), want, "{action} {key}");
}

#[test]
fn what_is_allowed_is_allowed_and_a_denial_wins() {
    check(READ, "s3:GetObject", "pub/a/b", Verdict::Allow);
    check(READ, "s3:GetObject", "private", Verdict::Silent);
    check(READ, "s3:PutObject", "pub/a", Verdict::Silent);
    check(READ, "s3:GetObjectTagging", "pub/a", Verdict::Silent);
    check(READ, "s3:GetObject", "pub/x1", Verdict::Deny);
    check(READ, "s3:PutObject", "pub/x1", Verdict::Deny);
    check(READ, "s3:ListBucket", "", Verdict::Silent);
}

#[test]
fn a_bucket_is_not_its_objects() {
    let all = |resource: &str| {
        format!(
            r#"{{"Statement":{{"Sid":"1","Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"{resource}"}}}}"#
        )
    };
    let objects = all("arn:aws:s3:::b/*");
    check(&objects, "s3:ListBucket", "", Verdict::Silent);
    check(&objects, "s3:DeleteObject", "any/key", Verdict::Allow);
    let bucket = all("arn:aws:s3:::b");
    check(&bucket, "s3:ListBucket", "", Verdict::Allow);
    check(&bucket, "s3:GetObject", "key", Verdict::Silent);
    let prefix = all("arn:aws:s3:::b/a?/");
    check(&prefix, "s3:GetObject", "a1/", Verdict::Allow);
    check(&prefix, "s3:GetObject", "a1/x", Verdict::Silent);
}

#[test]
fn names_of_actions_have_no_case() {
    let text = READ.replace("s3:GetObject", "S3:getobject");
    check(&text, "s3:GetObject", "pub/a", Verdict::Allow);
}

#[test]
fn what_cannot_be_followed_is_refused() {
    let refuse = |text: &str| Policy::parse(text, "b").expect_err("no policy of ours");
    let with =
        |part: &str| format!(r#"{{"Statement":{{"Effect":"Allow",{part},"Resource":"arn:aws:s3:::b/*"}}}}"#);
    assert!(matches!(refuse("{"), PolicyError::Malformed(_)));
    for part in [
        r#""Principal":{"Service":"*"},"Action":"s3:GetObject""#,
        r#""Principal":"*","Action":"s3:GetObject","Condition":{"Bool":{"aws:MultiFactorAuthPresent":"true"}}"#,
    ] {
        assert!(matches!(refuse(&with(part)), PolicyError::NotImplemented(_)), "{part}");
    }
    for part in [
        r#""Principal":"*","Action":"s3:GetObjekt""#,
        r#""Principal":"*","Action":"s3:ListBucket""#,
        r#""Principal":"*","Action":[]"#,
        r#""Principal":"*","Action":"s3:GetObject","Conditions":{}"#,
        r#""Principal":"*","Action":"s3:GetObject","Action":"s3:PutObject""#,
        r#""Action":"s3:GetObject""#,
        r#""Principal":"*","Action":"s3:GetObject","NotAction":"s3:PutObject""#,
        r#""Principal":"*","NotPrincipal":"*","Action":"s3:GetObject""#,
        r#""Principal":"*","Action":"s3:GetObject","NotResource":"arn:aws:s3:::b/x""#,
        r#""Principal":"*","Action":"s3:GetObject","Condition":{"Is":{"s3:prefix":"a"}}"#,
    ] {
        assert!(matches!(refuse(&with(part)), PolicyError::Malformed(_)), "{part}");
    }
    for other in [":::other/", ":::bb/", ":::*/"] {
        assert!(matches!(refuse(&READ.replace(":::b/", other)), PolicyError::Malformed(_)), "{other}");
    }
}

fn one(part: &str) -> Policy {
    let text = format!(r#"{{"Statement":{{{part},"Resource":["arn:aws:s3:::b","arn:aws:s3:::b/*"]}}}}"#);
    Policy::parse(&text, "b").expect("a policy")
}

fn by(policy: &Policy, user: Option<&str>, action: &str, facts: &[(&str, &str)]) -> Verdict {
    let facts: Facts = facts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let deed = Deed { user, action, bucket: "b", key: "k", facts: &facts };
    policy.verdict(deed, false)
}

#[test]
fn statements_are_about_whom_they_name() {
    let policy = one(r#""Effect":"Allow","Principal":{"AWS":"ann"},"Action":"s3:GetObject""#);
    assert_eq!(by(&policy, Some("ann"), "s3:GetObject", &[]), Verdict::Allow);
    assert_eq!(by(&policy, Some("bob"), "s3:GetObject", &[]), Verdict::Silent);
    assert_eq!(by(&policy, None, "s3:GetObject", &[]), Verdict::Silent);
    let but = one(r#""Effect":"Deny","NotPrincipal":{"AWS":"ann"},"NotAction":"s3:GetObject""#);
    assert_eq!(by(&but, Some("ann"), "s3:PutObject", &[]), Verdict::Silent);
    assert_eq!(by(&but, Some("bob"), "s3:PutObject", &[]), Verdict::Deny);
    assert_eq!(by(&but, None, "s3:GetObject", &[]), Verdict::Silent);
}

#[test]
fn conditions_are_looked_at() {
    let text = r#""Effect":"Deny","Principal":"*","Action":"s3:*",
        "Condition":{"Bool":{"aws:SecureTransport":"false"}}"#;
    let policy = one(text);
    assert!(!policy.wants_tags());
    assert_eq!(by(&policy, Some("ann"), "s3:GetObject", &[("aws:securetransport", "false")]), Verdict::Deny);
    assert_eq!(by(&policy, Some("ann"), "s3:GetObject", &[("aws:securetransport", "true")]), Verdict::Silent);
}

#[test]
fn what_is_open_to_anybody_is_public() {
    let public = |principal: &str, condition: &str| {
        let part = format!(r#""Effect":"Allow",{principal},"Action":"s3:GetObject","Condition":{condition}"#);
        one(&part).is_public()
    };
    let anybody = r#""Principal":"*""#;
    let from = |range: &str| format!(r#"{{"IpAddress":{{"aws:SourceIp":"{range}"}}}}"#);
    assert!(public(anybody, "{}"));
    assert!(public(anybody, r#"{"StringLike":{"aws:Referer":"https://a/*"}}"#));
    assert!(public(anybody, &from("0.0.0.0/0")) && !public(anybody, &from("203.0.113.0/24")));
    assert!(!public(r#""Principal":{"AWS":"ann"}"#, "{}") && public(r#""NotPrincipal":{"AWS":"ann"}"#, "{}"));
    let policy = one(r#""Effect":"Allow","Principal":"*","Action":"s3:GetObject""#);
    let deed = |user| Deed { user, action: "s3:GetObject", bucket: "b", key: "k", facts: &[] };
    assert_eq!(policy.verdict(deed(None), true), Verdict::Silent);
    assert_eq!(policy.verdict(deed(Some("ann")), true), Verdict::Allow);
}

#[test]
fn variables_are_followed_where_the_version_has_them() {
    let home = |version: &str| {
        let text = format!(
            r#"{{{version}"Statement":{{"Effect":"Allow","Principal":"*","Action":"s3:GetObject",
                "Resource":"arn:aws:s3:::b/home/${{aws:username}}/*",
                "Condition":{{"StringEquals":{{"s3:x-amz-meta":"${{aws:userid}}"}}}}}}}}"#
        );
        Policy::parse(&text, "b").expect("a policy")
    };
    let ask = |policy: &Policy, user: Option<&str>, key: &str, sent: &str| {
        let mut facts: Facts = vec![("s3:x-amz-meta".to_owned(), sent.to_owned())];
        for fact in ["aws:username", "aws:userid"] {
            facts.extend(user.map(|user| (fact.to_owned(), user.to_owned())));
        }
        policy.verdict(Deed { user, action: "s3:GetObject", bucket: "b", key, facts: &facts }, false)
    };
    let new = home(r#""Version":"2012-10-17","#);
    assert_eq!(ask(&new, Some("ann"), "home/ann/x", "ann"), Verdict::Allow);
    assert_eq!(ask(&new, Some("ann"), "home/ann/x", "bob"), Verdict::Silent);
    assert_eq!(ask(&new, Some("ann"), "home/bob/x", "ann"), Verdict::Silent);
    assert_eq!(ask(&new, None, "home//x", ""), Verdict::Silent);
    for old in ["", r#""Version":"2008-10-17","#] {
        let old = home(old);
        assert_eq!(ask(&old, Some("ann"), "home/ann/x", "ann"), Verdict::Silent);
        assert_eq!(ask(&old, Some("ann"), "home/${aws:username}/x", "${aws:userid}"), Verdict::Allow);
    }
    assert!(!new.wants_tags());
    let tags = READ.replace("pub/*", "${s3:ExistingObjectTag/team}/*");
    assert!(Policy::parse(&tags, "b").expect("a policy").wants_tags());
}

#[test]
fn a_variable_that_stands_for_nothing_is_about_nothing() {
    let one = |part: &str| {
        let text = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Deny","Principal":"*","Action":"s3:GetObject",{part}}}}}"#
        );
        Policy::parse(&text, "b").expect("a policy")
    };
    let but = one(r#""NotResource":"arn:aws:s3:::b/${aws:username}/*""#);
    assert_eq!(by(&but, Some("ann"), "s3:GetObject", &[("aws:username", "ann")]), Verdict::Deny);
    assert_eq!(by(&but, None, "s3:GetObject", &[]), Verdict::Silent);
    let unlike = one(
        r#""Resource":"arn:aws:s3:::b/*","Condition":{"StringNotLike":{"s3:prefix":["a","${aws:username}*"]}}"#,
    );
    assert_eq!(by(&unlike, Some("ann"), "s3:GetObject", &[("aws:username", "ann")]), Verdict::Deny);
    assert_eq!(by(&unlike, None, "s3:GetObject", &[]), Verdict::Silent);
    let default = READ.replace("pub/*", "${aws:username, 'all'}/*");
    check(&default, "s3:GetObject", "all/x", Verdict::Allow);
    check(&default, "s3:GetObject", "pub/a", Verdict::Silent);
}
