//! What a person sees who opens a link in a browser: how to use it. Static text, no scripts; the
//! secret part of the link, after the `#`, never reaches this server.

use super::{Answer, answer, set};
use crate::config::{Config, Protection};
use hyper::StatusCode;

const INVITE: &str = "<!doctype html>
<meta charset=\"utf-8\">
<meta name=\"referrer\" content=\"no-referrer\">
<title>Conclave invite</title>
<h1>You are invited to a Conclave</h1>
<p>This link is for the <code>conclave</code> program, not for a browser.
<p>Run <code>conclave join</code> in a terminal and paste the whole link there, with everything after
the <code>#</code>: that part is the secret, and it has not been sent to the server.
<p>Do not pass the link on: it is good for a limited time and number of uses.
";

const MACHINE: &str = "<!doctype html>
<meta charset=\"utf-8\">
<meta name=\"referrer\" content=\"no-referrer\">
<title>Conclave machine</title>
<h1>Add this machine to your account</h1>
<p>This link is for the <code>conclave</code> program, not for a browser.
<p>Run <code>conclave join</code> in a terminal on the new machine and paste the whole link there,
with everything after the <code>#</code>. The machine that made the link is waiting meanwhile.
";

/// Returns the page of a link's path; `None` if it is no link's.
pub(super) fn page(path: &str, config: &Config) -> Option<Answer> {
    let body = match path.get(..3)? {
        "/i/" => INVITE,
        "/m/" => MACHINE,
        _ => return None,
    };
    let mut page = answer(StatusCode::OK, "text/html; charset=utf-8", body);
    let headers = page.headers_mut();
    set(
        headers,
        "content-security-policy",
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    );
    if !matches!(config.protection(), Ok(Protection::Clear)) {
        set(headers, "strict-transport-security", "max-age=31536000");
    }
    Some(page)
}
