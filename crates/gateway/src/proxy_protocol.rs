//! The PROXY header, versions 1 and 2: by which a balancer in front of us says
//! whose connection it hands on. It is read only from who is trusted with that,
//! and there it has to be: who could leave it out could also write it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// What the second version begins with. The first is never shorter.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of the first version.
const LINE: usize = 107;
/// What follows the fixed part of the second version: addresses, and details
/// that nobody needs here.
const LONGEST: usize = 4096;

/// The client that a header names. Some(None): nobody but the balancer itself;
/// None: it is no header.
pub(crate) async fn read(stream: &mut TcpStream) -> Option<Option<SocketAddr>> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await.ok()?;
    if start == SIGNATURE {
        let [command, family, high, low] = {
            let mut fixed = [0; 4];
            stream.read_exact(&mut fixed).await.ok()?;
            fixed
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > LONGEST {
            return None;
        }
        let mut rest = vec![0; length];
        stream.read_exact(&mut rest).await.ok()?;
        return binary(command, family, &rest);
    }
    if !start.starts_with(b"PROXY ") {
        return None;
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\n") {
        // Not a byte beyond the line is taken: it is the client's.
        let mut next = [0; LINE];
        let room = next.get_mut(..LINE.checked_sub(line.len())?)?;
        let seen = stream.peek(room).await.ok()?;
        let part = room.get(..seen).filter(|part| !part.is_empty())?;
        let take = part.iter().position(|byte| *byte == b'\n').map_or(seen, |at| at + 1);
        let taken = room.get_mut(..take)?;
        stream.read_exact(taken).await.ok()?;
        line.extend_from_slice(taken);
    }
    text(&line)
}

fn text(line: &[u8]) -> Option<Option<SocketAddr>> {
    let line = std::str::from_utf8(line).ok()?.strip_prefix("PROXY ")?.strip_suffix("\r\n")?;
    let mut words = line.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let mut address = || {
        let word = words.next()?;
        match family {
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::from),
            "TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            _ => None,
        }
    };
    let (source, _) = (address()?, address()?);
    let mut port = || words.next()?.parse::<u16>().ok();
    let (port, _) = (port()?, port()?);
    words.next().is_none().then_some(Some(SocketAddr::new(source, port)))
}

fn binary(command: u8, family: u8, rest: &[u8]) -> Option<Option<SocketAddr>> {
    match command {
        // The balancer asks for itself, to see whether we are well.
        0x20 => return Some(None),
        0x21 => {}
        _ => return None,
    }
    let (source, port): (IpAddr, &[u8]) = match family {
        0x11 => {
            let source: [u8; 4] = rest.get(..4)?.try_into().ok()?;
            (source.into(), rest.get(8..12)?)
        }
        0x21 => {
            let source: [u8; 16] = rest.get(..16)?.try_into().ok()?;
            (source.into(), rest.get(32..36)?)
        }
        // Not TCP over IP, or not told.
        _ => return Some(None),
    };
    let port = u16::from_be_bytes(port.get(..2)?.try_into().ok()?);
    Some(Some(SocketAddr::new(source, port)))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// What is read of some bytes, and what is left of them.
    async fn check(sent: &[&[u8]], wanted: Option<Option<&str>>, left: &[u8]) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let sent: Vec<Vec<u8>> = sent.iter().map(|part| part.to_vec()).collect();
        let shown = format!("{sent:?}");
        let sending = tokio::spawn(async move {
            for part in sent {
                client.write_all(&part).await.unwrap();
                client.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let source = read(&mut stream).await;
        let wanted = wanted.map(|source| source.map(|source| source.parse().unwrap()));
        assert_eq!(source, wanted, "{shown}");
        sending.await.unwrap();
        if source.is_some() {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, left, "{shown}");
        }
    }

    fn second(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    #[tokio::test]
    async fn the_first_version_is_read_to_its_end_and_no_further() {
        let line: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";
        check(&[line, b"GET /"], Some(Some("192.0.2.1:56324")), b"GET /").await;
        let parts: Vec<&[u8]> = line.chunks(1).chain([&b"GET"[..]]).collect();
        check(&parts, Some(Some("192.0.2.1:56324")), b"GET").await;
        check(&[b"PROXY TCP6 2001:db8::1 ::1 1 2\r\nx\n"], Some(Some("[2001:db8::1]:1")), b"x\n").await;
        check(&[b"PROXY UNKNOWN\r\nx"], Some(None), b"x").await;
        check(&[b"PROXY UNKNOWN ffff::1 ffff::1 65535 65535\r\n"], Some(None), b"").await;
    }

    #[tokio::test]
    async fn the_second_version_is_read_with_all_its_details() {
        let v4 = [&[192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 187][..], &[3, 0, 1, 9]].concat();
        check(&[&second(0x21, 0x11, &v4), b"GET"], Some(Some("192.0.2.1:56324")), b"GET").await;
        let mut v6 = [0; 36];
        (v6[15], v6[33]) = (1, 80);
        check(&[&second(0x21, 0x21, &v6)], Some(Some("[::1]:80")), b"").await;
        check(&[&second(0x20, 0, &[]), b"x"], Some(None), b"x").await;
        check(&[&second(0x21, 0, b"what"), b"x"], Some(None), b"x").await;
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        for sent in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 1\r\n",
            b"PROXY TCP4 2001:db8::1 192.0.2.2 56324 443\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 99999\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\nGET / HTTP/1.1\r\n",
            b"PROXY UDP4 192.0.2.1 192.0.2.2 56324 443\r\n",
            b"PROXY ",
            &[&b"PROXY TCP4 "[..], &[b'1'; 200]].concat(),
            &second(0x11, 0x11, &[0; 12]),
            &second(0x22, 0x11, &[0; 12]),
            &second(0x21, 0x11, &[0; 11]),
            &second(0x21, 0x21, &[0; 12]),
            &second(0x21, 0x11, &[0; LONGEST + 1]),
            &SIGNATURE,
        ] {
            check(&[sent], None, b"").await;
        }
    }
}
