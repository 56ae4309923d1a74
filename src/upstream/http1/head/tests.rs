#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use http::Request;
use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Option<ResponseHead>, NotHttp> {
    read_response(&mut BytesMut::from(text), &Method::GET, true)
}

fn head(text: &str) -> ResponseHead {
    read(text).unwrap().unwrap()
}

#[test]
fn a_head_is_read_only_when_it_is_complete() {
    let text = "HTTP/1.1 200 OK\r\nX-One:  a b \r\nx-empty:\r\ncontent-length: 3\r\n\r\n";
    for end in 0..text.len() {
        assert!(read(&text[..end]).unwrap().is_none(), "{:?}", &text[..end]);
    }
    let mut input = BytesMut::from(format!("{text}abc").as_str());
    let head = read_response(&mut input, &Method::GET, true).unwrap().unwrap();
    assert_eq!(
        (head.status, head.version, head.length),
        (StatusCode::OK, Version::HTTP_11, Length::Exact(3))
    );
    assert_eq!(
        (head.headers["x-one"].as_bytes(), head.headers["x-empty"].as_bytes()),
        (&b"a b"[..], &b""[..])
    );
    assert!(head.keep_alive);
    assert_eq!(&input[..], b"abc");
}

#[test]
fn where_a_response_ends() {
    use Length::{Chunked, Exact, None, UntilClose};
    for (start, fields, length, keep_alive) in [
        ("HTTP/1.1 200", "content-length: 0", Exact(0), true),
        ("HTTP/1.1 200", "content-length: 7\r\ncontent-length: 7", Exact(7), true),
        ("HTTP/1.1 200", "content-length: 7, 7", Exact(7), true),
        ("HTTP/1.1 200", "transfer-encoding: Chunked", Chunked, true),
        ("HTTP/1.1 200", "x: y", UntilClose, false),
        ("HTTP/1.1 200", "transfer-encoding: chunked\r\ncontent-length: 3", Chunked, false),
        ("HTTP/1.1 200", "connection: x, Close\r\ncontent-length: 3", Exact(3), false),
        ("HTTP/1.0 200", "content-length: 3", Exact(3), false),
        ("HTTP/1.0 200", "content-length: 3\r\nconnection: Keep-Alive", Exact(3), true),
        ("HTTP/1.1 204", "content-length: 3", None, true),
        ("HTTP/1.1 304", "content-length: 3", None, true),
        ("HTTP/1.1 103", "link: x", None, true),
    ] {
        let head = head(&format!("{start} X\r\n{fields}\r\n\r\n"));
        assert_eq!((head.length, head.keep_alive), (length, keep_alive), "{start} {fields}");
    }
    let mut input = BytesMut::from("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n");
    let head = read_response(&mut input, &Method::HEAD, true).unwrap().unwrap();
    assert_eq!((head.length, head.headers[CONTENT_LENGTH].as_bytes()), (None, &b"3"[..]));
}

#[test]
fn what_goes_on_says_once_and_rightly_how_long_it_is() {
    let lengths = |fields: &str| {
        let head = head(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n"));
        head.headers
            .get_all(CONTENT_LENGTH)
            .iter()
            .map(|value| value.to_str().unwrap().into())
            .collect::<Vec<String>>()
    };
    assert_eq!(lengths("content-length: 7\r\ncontent-length: 7"), ["7"]);
    assert!(lengths("content-length: 7\r\ntransfer-encoding: chunked").is_empty());
    assert_eq!(lengths("content-length: 7"), ["7"]);
}

#[test]
fn ambiguous_and_malformed_heads_are_refused() {
    for text in [
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno field\r\n\r\n",
        "HTTP/1.1 200 OK\r\nfolded: a\r\n b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nspace : a\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        assert!(read(text).is_err(), "{text:?}");
    }
    let many = "x: y\r\n".repeat(limits::HEAD_FIELDS + 1);
    assert_eq!(read(&format!("HTTP/1.1 200 OK\r\n{many}\r\n")).unwrap_err(), NotHttp::TooLarge);
    let long = "x".repeat(limits::HEAD_BYTES);
    assert_eq!(read(&format!("HTTP/1.1 200 OK\r\nx: {long}")).unwrap_err(), NotHttp::TooLarge);
    assert_eq!(read(&format!("HTTP/1.1 200 OK\r\nx: {long}\r\n\r\n")).unwrap_err(), NotHttp::TooLarge);
}

fn written(request: &Request<()>, length: Length, upgrade: Option<&HeaderValue>) -> String {
    let (parts, ()) = request.clone().into_parts();
    let mut out = BytesMut::new();
    write_request(&mut out, &Head { upgrade, ..Head::new(&parts, length) }, None);
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn a_request_says_of_its_body_what_is_so() {
    let request = Request::post("/a?b")
        .header("host", "x.test")
        .header("content-length", "99")
        .header("transfer-encoding", "gzip")
        .header("x-one", "1")
        .body(())
        .unwrap();
    let start = "POST /a?b HTTP/1.1\r\nhost: x.test\r\nx-one: 1\r\n";
    assert_eq!(written(&request, Length::None, None), format!("{start}\r\n"));
    assert_eq!(written(&request, Length::Exact(0), None), format!("{start}content-length: 0\r\n\r\n"));
    assert_eq!(
        written(&request, Length::Exact(u64::MAX), None),
        format!("{start}content-length: {}\r\n\r\n", u64::MAX)
    );
    assert_eq!(
        written(&request, Length::Chunked, None),
        format!("{start}transfer-encoding: chunked\r\n\r\n")
    );
}

#[test]
fn connection_names_what_is_of_this_hop() {
    let te = Request::get("/").header("host", "x").header("te", "trailers").body(()).unwrap();
    assert!(written(&te, Length::None, None).ends_with("te: trailers\r\nconnection: TE\r\n\r\n"));
    let echo = HeaderValue::from_static("echo");
    let end = "connection: upgrade, TE\r\nupgrade: echo\r\n\r\n";
    assert!(written(&te, Length::None, Some(&echo)).ends_with(end));
    let plain = Request::get("http://x.test").body(()).unwrap();
    let text = written(&plain, Length::None, Some(&echo));
    assert_eq!(text, "GET / HTTP/1.1\r\nhost: \r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
}

proptest! {
    /// Another parser reads from what is written what was to be written.
    #[test]
    fn what_is_written_is_what_is_read(
        path in "/[a-z0-9/%._-]{0,40}",
        fields in proptest::collection::vec(("x-[a-z]{1,10}", "[!-~][ -~]{0,30}"), 0..20),
        length in 0_u64..u64::MAX,
    ) {
        let mut request = Request::put(path.as_str()).header("host", "h.test");
        for (name, value) in &fields {
            request = request.header(name, value.trim());
        }
        let request = request.body(()).unwrap();
        let text = written(&request, Length::Exact(length), None);
        let mut room = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Request::new(&mut room);
        prop_assert_eq!(parsed.parse(text.as_bytes()).unwrap(), httparse::Status::Complete(text.len()));
        prop_assert_eq!((parsed.method, parsed.path), (Some("PUT"), Some(path.as_str())));
        let mut read: Vec<_> = parsed
            .headers
            .iter()
            .map(|field| (field.name.to_string(), std::str::from_utf8(field.value).unwrap().to_string()))
            .collect();
        let mut wanted: Vec<_> =
            fields.iter().map(|(name, value)| (name.clone(), value.trim().to_string())).collect();
        wanted.push(("host".into(), "h.test".into()));
        wanted.push(("content-length".into(), length.to_string()));
        // Fields of one name keep their order, others may change places.
        read.sort_by(|one, other| one.0.cmp(&other.0));
        wanted.sort_by(|one, other| one.0.cmp(&other.0));
        prop_assert_eq!(read, wanted);
    }

    /// Where hyper's client and this one both take a response, they take it for the same.
    #[test]
    fn responses_are_taken_as_hyper_takes_them(
        status in prop_oneof![Just(200_u16), Just(204), Just(304), Just(404), Just(500)],
        version in 0..2,
        fields in proptest::collection::vec(
            prop_oneof![
                Just("content-length: 3".to_string()),
                Just("content-length: 2".to_string()),
                Just("transfer-encoding: chunked".to_string()),
                Just("connection: close".to_string()),
                Just("x: y".to_string()),
                "x-[a-z]{1,4}:[ -~]{0,8}",
            ],
            0..5,
        ),
        body in prop_oneof![Just("abc"), Just("3\r\nabc\r\n0\r\n\r\n"), Just("2\r\nab\r\n0\r\nx: y\r\n\r\n"), Just("")],
    ) {
        let lines: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        let text = format!("HTTP/1.{version} {status} X\r\n{lines}\r\n{body}");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        if let (Some(theirs), Some(ours)) = (runtime.block_on(by_hyper(&text)), by_us(&text)) {
            prop_assert_eq!(ours, theirs, "{:?}", text);
        }
    }
}

type Taken = (u16, Vec<u8>);

/// Status and body, when the response is complete by the end of `text`.
fn by_us(text: &str) -> Option<Taken> {
    use crate::upstream::http1::body::{Decoder, Piece};

    let mut input = BytesMut::from(text);
    let head = read_response(&mut input, &Method::GET, true).ok()??;
    let mut decoder = Decoder::new(head.length);
    let mut body = Vec::new();
    loop {
        match decoder.next(&mut input).ok()? {
            Piece::Data(data) => body.extend_from_slice(&data),
            Piece::More if decoder.may_close() => break,
            Piece::More => return None,
            Piece::End | Piece::Trailers(_) => break,
        }
    }
    Some((head.status.as_u16(), body))
}

async fn by_hyper(text: &str) -> Option<Taken> {
    use http_body_util::{BodyExt, Empty};
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let (mut server, client) = tokio::io::duplex(64 * 1024);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.ok()?;
    let exchange = async {
        let response = sender.send_request(Request::new(Empty::<Bytes>::new())).await.ok()?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.ok()?;
        Some((status, body.to_bytes().to_vec()))
    };
    let serve = async {
        // An answer before the question would be none.
        assert!(server.read(&mut [0; 1024]).await.ok()? > 0);
        server.write_all(text.as_bytes()).await.ok()?;
        server.shutdown().await.ok()
    };
    let (taken, _, _) = futures_util::join!(exchange, serve, connection);
    taken
}

#[test]
fn the_comparison_with_hyper_compares() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for text in [
        "HTTP/1.1 200 X\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.0 200 X\r\n\r\nabc",
    ] {
        let taken = Some((200, b"abc".to_vec()));
        assert_eq!((by_us(text), runtime.block_on(by_hyper(text))), (taken.clone(), taken));
    }
}
