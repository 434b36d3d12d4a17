//! What an Ingress's annotations do with a request by themselves.

use pingora_error::Result;

use crate::client;
use crate::extra::Extra;
use crate::page::Page;
use crate::rate;
use crate::route::{Request, Route};
use crate::stream::Peer;

/// What becomes of a request before a backend is chosen for it.
pub(crate) enum Screened {
    Answered(Box<Page>),
    Passed(Option<client::Admitted>),
}

fn answered(page: Page) -> Screened {
    Screened::Answered(Box::new(page))
}

/// Does what only annotations ask for: sends elsewhere, and keeps out.
pub(crate) fn screen(
    extra: &Extra,
    route: &Route,
    request: &Request<'_>,
    peer: &Peer,
    authority: &str,
) -> Result<Screened> {
    if let Some(redirect) = &extra.redirect {
        let location = redirect.location.fill(request, authority);
        return Page::redirect(redirect.status, &location).map(answered);
    }
    let address = peer.address.ip();
    if extra.sources.as_ref().is_some_and(|sources| !sources.admit(address)) {
        return Page::new(403, "This app is not open to where you are.").map(answered);
    }
    match extra.clients.as_ref().map(|clients| clients.admit(&route.owner, address, rate::now())) {
        None => Ok(Screened::Passed(None)),
        Some(Ok(place)) => Ok(Screened::Passed(place)),
        Some(Err(wait)) => {
            Page::later(wait, "You ask for more than this app serves one client.").map(answered)
        }
    }
}
