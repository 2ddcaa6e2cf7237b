//! Cross-origin rules of a bucket: which of them a browser's request meets, and what it is told then.

use s3s::dto::CORSRule;

/// What a browser asks: from where, with which method, with which headers (a preflight names them).
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub origin: &'a str,
    pub method: &'a str,
    pub headers: Option<&'a str>,
}

/// Headers of the answer.
pub type Told = Vec<(&'static str, String)>;

/// The first rule that allows this, as headers. `None`: no rule does.
pub fn allowed(rules: &[CORSRule], ask: Ask<'_>) -> Option<Told> {
    rules.iter().find_map(|rule| told(rule, ask))
}

fn told(rule: &CORSRule, ask: Ask<'_>) -> Option<Told> {
    let origin = rule.allowed_origins.iter().find(|pattern| matches(pattern, ask.origin))?;
    if !rule.allowed_methods.iter().any(|method| method.as_str() == ask.method) {
        return None;
    }
    let wanted: Vec<String> = ask
        .headers
        .unwrap_or_default()
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect();
    let patterns = rule.allowed_headers.as_deref().unwrap_or_default();
    let fits = |name: &String| patterns.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), name));
    if !wanted.iter().all(fits) {
        return None;
    }
    let anyone = origin == "*";
    let mut told =
        vec![("access-control-allow-origin", if anyone { "*".to_owned() } else { ask.origin.to_owned() })];
    let methods: Vec<&str> = rule.allowed_methods.iter().map(String::as_str).collect();
    told.push(("access-control-allow-methods", methods.join(", ")));
    if !wanted.is_empty() {
        told.push(("access-control-allow-headers", wanted.join(", ")));
    }
    if let Some(names) = rule.expose_headers.as_ref().filter(|names| !names.is_empty()) {
        told.push(("access-control-expose-headers", names.join(", ")));
    }
    if let Some(seconds) = rule.max_age_seconds {
        told.push(("access-control-max-age", seconds.to_string()));
    }
    if !anyone {
        told.push(("access-control-allow-credentials", "true".to_owned()));
    }
    told.push(("vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method".to_owned()));
    Some(told)
}

/// At most one `*`, which stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => {
            text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
        }
    }
}

const METHODS: &[&str] = &["GET", "PUT", "POST", "DELETE", "HEAD"];

/// Is this the name of a header?
fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// What is wrong with a preflight, whatever the rules are.
pub fn nonsense(method: Option<&str>, headers: Option<&str>) -> Option<String> {
    if !method.is_some_and(|method| METHODS.contains(&method)) {
        return Some(format!("Invalid Access-Control-Request-Method: {}", method.unwrap_or("null")));
    }
    let mut names = headers.unwrap_or_default().split(',').map(str::trim);
    let odd = names.find(|name| !is_name(name))?;
    Some(format!("Access-Control-Request-Headers \"{odd}\" contains invalid character."))
}

/// What is wrong with a new set of rules.
pub fn problem(rules: &[CORSRule]) -> Option<String> {
    for rule in rules {
        if let Some(method) = rule.allowed_methods.iter().find(|method| !METHODS.contains(&method.as_str())) {
            return Some(format!(
                "Found unsupported HTTP method in CORS config. Unsupported method is {method}"
            ));
        }
        if let Some(origin) = rule.allowed_origins.iter().find(|origin| origin.matches('*').count() > 1) {
            return Some(format!("AllowedOrigin \"{origin}\" can not have more than one wildcard."));
        }
        for header in rule.allowed_headers.iter().flatten() {
            if header.matches('*').count() > 1 {
                return Some(format!("AllowedHeader \"{header}\" can not have more than one wildcard."));
            }
            if !is_name(header) {
                return Some(format!("AllowedHeader \"{header}\" contains invalid character."));
            }
        }
        for header in rule.expose_headers.iter().flatten() {
            if header.contains('*') {
                return Some(format!(
                    "ExposeHeader \"{header}\" contains wildcard. We currently do not support wildcard for ExposeHeader."
                ));
            }
            if !is_name(header) {
                return Some(format!("ExposeHeader \"{header}\" contains invalid character."));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(origins: &[&str], ask: Ask<'_>, want: Option<&str>) {
        let rule = CORSRule {
            allowed_origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
            allowed_methods: vec!["GET".to_owned(), "PUT".to_owned()],
            allowed_headers: Some(vec!["x-amz-*".to_owned(), "Content-Type".to_owned()]),
            ..CORSRule::default()
        };
        let told = allowed(&[rule], ask);
        assert_eq!(told.as_ref().map(|told| told[0].1.as_str()), want, "{ask:?}");
    }

    #[test]
    fn rules_and_preflights_name_headers_and_methods() {
        let rule = |allowed: &str, exposed: &str| CORSRule {
            allowed_origins: vec!["*".to_owned()],
            allowed_methods: vec!["GET".to_owned()],
            allowed_headers: Some(vec![allowed.to_owned()]),
            expose_headers: Some(vec![exposed.to_owned()]),
            ..CORSRule::default()
        };
        assert_eq!(problem(&[rule("x-amz-*", "ETag")]), None);
        for (allowed, exposed) in [("*a*", "ETag"), ("a b", "ETag"), ("*", "*"), ("*", "a b")] {
            assert!(problem(&[rule(allowed, exposed)]).is_some(), "{allowed} {exposed}");
        }
        assert_eq!(nonsense(Some("GET"), Some("x-amz-date, content-type")), None);
        assert_eq!(nonsense(Some("GET"), None), None);
        for (method, headers) in
            [(None, None), (Some("FOO"), None), (Some("get"), None), (Some("PUT"), Some("a b"))]
        {
            assert!(nonsense(method, headers).is_some(), "{method:?} {headers:?}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_answers() {
        let ask = Ask { origin: "http://a.example", method: "GET", headers: None };
        check(&["http://a.example"], ask, Some("http://a.example"));
        check(&["*"], ask, Some("*"));
        check(&["http://*.example"], ask, Some("http://a.example"));
        check(&["http://b.example"], ask, None);
        check(&["*"], Ask { method: "DELETE", ..ask }, None);
        check(&["*"], Ask { headers: Some("X-Amz-Date, content-type"), ..ask }, Some("*"));
        check(&["*"], Ask { headers: Some("x-other"), ..ask }, None);
    }
}
