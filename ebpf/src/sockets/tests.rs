//! What sock_diag says, and garbage.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut octets = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    octets.extend(kind.to_ne_bytes());
    octets.extend([0; 10]);
    octets.extend(body);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

/// `inet_diag_msg` of a socket that is connected to a peer.
fn diag(family: i32, address: &[u8], port: u16, cookie: u64) -> Vec<u8> {
    let mut id = [0; SOCKET_ID];
    id[2..4].copy_from_slice(&port.to_be_bytes());
    id[20..20 + address.len()].copy_from_slice(address);
    id[40..44].copy_from_slice(&(cookie as u32).to_ne_bytes());
    id[44..48].copy_from_slice(&((cookie >> 32) as u32).to_ne_bytes());
    [&[family as u8, 1, 0, 0][..], &id, &[0; 20]].concat()
}

#[test]
fn sockets_are_read_from_messages() {
    let v4 = diag(libc::AF_INET, &[192, 0, 2, 7], 5353, 0x0102_0304_0506_0708);
    let mapped = diag(libc::AF_INET6, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7], 53, 9);
    let octets =
        [message(SOCK_DIAG_BY_FAMILY, &v4), message(77, b"odd"), message(NLMSG_DONE, &[0; 4])].concat();
    let kinds: Vec<(u16, usize)> = messages(&octets).iter().map(|(kind, body)| (*kind, body.len())).collect();
    assert_eq!(kinds, [(SOCK_DIAG_BY_FAMILY, v4.len()), (77, 3), (NLMSG_DONE, 4)]);
    let read = socket(libc::AF_INET as u8, &v4).unwrap();
    assert_eq!((read.peer, read.cookie), (("192.0.2.7".parse().unwrap(), 5353), 0x0102_0304_0506_0708));
    assert_eq!(read.id[..], v4[MESSAGE..MESSAGE + SOCKET_ID], "as the kernel wants it back");
    // A socket of both families that is connected to an IPv4 address: the same peer.
    let read = socket(libc::AF_INET6 as u8, &mapped).unwrap();
    assert_eq!((read.peer, read.cookie), (("192.0.2.7".parse().unwrap(), 53), 9));
    assert_eq!(socket(libc::AF_INET as u8, &v4[..MESSAGE + SOCKET_ID - 1]), None, "cut off");
}

/// netlink(7): a list ends with NLMSG_DONE, and `netlink_dump_done` has the number of an error in it, ENOENT of a kernel without
/// `udp_diag`: that is no list of nobody.
#[test]
fn a_list_that_cannot_be_made_is_no_empty_one() {
    let family = libc::AF_INET as u8;
    let part = message(SOCK_DIAG_BY_FAMILY, &diag(libc::AF_INET, &[192, 0, 2, 7], 5353, 7));
    let end = |code: i32| message(NLMSG_DONE, &code.to_ne_bytes());
    let mut sockets = Vec::new();
    assert!(read_part(family, &part, &mut sockets).is_none(), "there is more");
    assert!(read_part(family, &[part.clone(), end(0), part].concat(), &mut sockets).unwrap().is_ok());
    assert_eq!(sockets.len(), 2, "what comes after the end is none of it");
    let failed = read_part(family, &end(-libc::ENOENT), &mut sockets).unwrap().unwrap_err();
    assert_eq!(failed.raw_os_error(), Some(libc::ENOENT));
    assert!(needs(&failed).contains("CONFIG_INET_UDP_DIAG"), "{}", needs(&failed));
}

/// A length of nothing, of less than a header, and of more than there is: what came before counts.
#[test]
fn lengths_that_lie_end_it() {
    let good = message(NLMSG_DONE, &[0; 4]);
    for length in [0_u32, 1, 15, 21, 4096, u32::MAX - 2, u32::MAX] {
        let mut bad = message(NLMSG_DONE, &[0; 4]);
        bad[..4].copy_from_slice(&length.to_ne_bytes());
        assert_eq!(messages(&[good.clone(), bad].concat()).len(), 1, "{length}");
    }
    assert_eq!(messages(&good[..HEADER - 1]), []);
    assert_eq!(messages(&[]), []);
}

/// Processes of one namespace may differ in who may look at them: it takes one to enter it. What is gone is no trouble.
#[test]
fn a_namespace_is_denied_only_if_every_process_of_it_is() {
    let denied = || Err(io::Error::from_raw_os_error(libc::EACCES));
    let mut namespaces = Namespaces { open: HashMap::new(), denied: HashMap::new() };
    namespaces.add(1, denied);
    namespaces.add(1, || Ok("a"));
    namespaces.add(1, denied);
    namespaces.add(1, || panic!("it is open already"));
    for code in [libc::ENOENT, libc::ESRCH] {
        namespaces.add(2, || Err(io::Error::from_raw_os_error(code)));
    }
    assert_eq!((namespaces.open.len(), namespaces.denied.len()), (1, 0));
    namespaces.add(3, denied);
    namespaces.add(3, || Err(io::Error::from_raw_os_error(libc::EMFILE)));
    namespaces.add(4, || Err(io::Error::from_raw_os_error(libc::EMFILE)));
    let why = |of: u64| namespaces.denied[&of].raw_os_error();
    assert_eq!((why(3), why(4)), (Some(libc::EACCES), Some(libc::EMFILE)));
    assert_eq!((namespaces.open.len(), namespaces.denied.len()), (1, 2));
}

#[test]
fn errors_are_negative_numbers() {
    let of = |code: i32| result_of(&code.to_ne_bytes()).map_err(|error| error.raw_os_error());
    assert_eq!(of(0), Ok(()));
    assert_eq!(of(-libc::ENOENT), Err(Some(libc::ENOENT)));
    assert!(of(i32::MIN).is_err());
    assert!(result_of(&[1, 2]).is_ok(), "without a number there is no error");
}

proptest! {
    /// Whatever is received: reading it ends, and stays inside.
    #[test]
    fn garbage_is_read_to_its_end(
        octets in vec(prop_oneof![3 => 0..32_u8, 1 => any::<u8>()], 0..400),
        family in any::<u8>(),
    ) {
        let found = messages(&octets);
        let length: usize = found.iter().map(|(_, body)| HEADER + body.len()).sum();
        prop_assert!(length <= octets.len());
        for (_, body) in found {
            let _ = (socket(family, body), result_of(body));
        }
        let _ = (socket(family, &octets), result_of(&octets));
    }
}
