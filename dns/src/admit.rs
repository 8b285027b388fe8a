//! Who may ask and who may copy a zone: networks that are let in or kept out.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::settings::{Access, AccessList};

impl Access {
    /// Whether this address may ask. Without a word on it: yes, unless only some are let in.
    pub(crate) fn may_query(&self, client: IpAddr) -> bool {
        self.query.verdict(client).unwrap_or(self.query.allow.is_empty())
    }

    /// Whether this address may copy zones. Without a word on it: no.
    pub(crate) fn may_transfer(&self, client: IpAddr) -> bool {
        self.transfer.verdict(client).unwrap_or(false)
    }

    /// Whether this address is told why it gets what it gets. Without a word on it: no.
    pub(crate) fn may_ask_why(&self, client: IpAddr) -> bool {
        self.explain.verdict(client).unwrap_or(false)
    }
}

impl AccessList {
    /// The word of the closest network that holds the address, if any does.
    fn verdict(&self, client: IpAddr) -> Option<bool> {
        match (closest(&self.allow, client), closest(&self.deny, client)) {
            (None, None) => None,
            (allow, deny) => Some(allow > deny),
        }
    }
}

/// Length of the longest prefix that holds the address.
fn closest(networks: &[IpNet], client: IpAddr) -> Option<u8> {
    networks.iter().filter(|network| network.contains(&client)).map(IpNet::prefix_len).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(allow: &[&str], deny: &[&str]) -> AccessList {
        let parse = |networks: &[&str]| networks.iter().map(|n| n.parse().unwrap()).collect();
        AccessList { allow: parse(allow), deny: parse(deny) }
    }

    #[test]
    fn the_closest_network_decides() {
        let ten = ["10.0.0.0/8"];
        for (allow, deny, client, query, transfer) in [
            (&[][..], &[][..], "10.1.0.1", true, false),
            (&ten, &[], "10.1.0.1", true, true),
            (&ten, &[], "11.1.0.1", false, false),
            (&ten, &[], "::1", false, false),
            (&[], &ten, "10.1.0.1", false, false),
            (&[], &ten, "11.1.0.1", true, false),
            (&ten, &["10.1.0.0/16"], "10.1.0.1", false, false),
            (&ten, &["10.1.0.0/16"], "10.2.0.1", true, true),
            (&["10.1.0.0/16"], &ten, "10.1.0.1", true, true),
            (&ten, &ten, "10.1.0.1", false, false),
            (&["fd00::/8"], &[], "fd00::1", true, true),
        ] {
            let same = || list(allow, deny);
            let access = Access { query: same(), transfer: same(), explain: same() };
            assert_eq!(access.may_ask_why(client.parse().unwrap()), transfer, "{allow:?} {deny:?} {client}");
            let client = client.parse().unwrap();
            let row = (access.may_query(client), access.may_transfer(client));
            assert_eq!(row, (query, transfer), "{allow:?} {deny:?} {client}");
        }
    }
}
