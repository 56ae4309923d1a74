#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

/// What a decoder made of its input: body, trailers, and what it left.
#[derive(Debug, PartialEq)]
struct Decoded {
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
    ended: bool,
}

/// Feeds `pieces` one after the other; the rest of the input is left in the buffer.
fn decode<'input>(
    length: Length,
    pieces: impl IntoIterator<Item = &'input [u8]>,
) -> Result<(Decoded, BytesMut), NotHttp> {
    let mut decoder = Decoder::new(length);
    let mut decoded = Decoded { body: Vec::new(), trailers: Vec::new(), ended: false };
    let mut input = BytesMut::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        while !decoded.ended {
            match decoder.next(&mut input)? {
                Piece::Data(data) => {
                    assert!(!data.is_empty());
                    decoded.body.extend_from_slice(&data);
                }
                Piece::Trailers(trailers) => {
                    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                        (name.to_string(), value.to_str().unwrap().to_string())
                    };
                    decoded.trailers = trailers.iter().map(field).collect();
                    decoded.ended = true;
                }
                Piece::End => decoded.ended = true,
                Piece::More => break,
            }
        }
        assert_eq!(decoded.ended, decoder.is_end());
    }
    Ok((decoded, input))
}

fn all_splits(message: &[u8]) -> impl Iterator<Item = [&[u8]; 2]> {
    (0..=message.len()).map(|at| {
        let (one, other) = message.split_at(at);
        [one, other]
    })
}

#[test]
fn a_chunked_body_split_anywhere_is_the_same() {
    let message =
        b"5;ext=\"a;b\"\r\nhello\r\n1\r\n,\r\n0006 \r\n world\r\n0\r\nX-Sum: 7\r\nx-two:\r\n\r\nHTTP/1.1 200";
    for split in all_splits(message) {
        let (decoded, rest) = decode(Length::Chunked, split).unwrap();
        assert_eq!(decoded.body, b"hello, world");
        assert_eq!(decoded.trailers, [("x-sum".into(), "7".into()), ("x-two".into(), String::new())]);
        assert!(decoded.ended);
        assert_eq!(&rest[..], b"HTTP/1.1 200");
    }
}

#[test]
fn what_is_no_chunk_is_refused_however_it_is_split() {
    for message in [
        &b"\r\n"[..],
        b"x\r\n",
        b"-1\r\n",
        b"0x5\r\nhello\r\n",
        b"5 5\r\nhello\r\n",
        b"5\nhello\n",
        b"5\r\nhello!\r\n",
        b"5\r\nhello\n0\n",
        b"11111111111111111\r\n",
        b" 5\r\nhello\r\n",
        b"0\r\nno field\r\n\r\n",
    ] {
        for split in all_splits(message) {
            assert!(decode(Length::Chunked, split).is_err(), "{:?}", String::from_utf8_lossy(message));
        }
    }
    let long = [b"5;".as_slice(), &vec![b'x'; limits::CHUNK_LINE]].concat();
    assert!(decode(Length::Chunked, [&long[..]]).is_err());
    assert!(decode(Length::Chunked, [&[&long[..], b"\r\nhello"].concat()[..]]).is_err());
}

#[test]
fn a_chunk_of_the_greatest_size_is_believed_and_never_ends() {
    let (decoded, _) = decode(Length::Chunked, [&b"ffffffffffffffff\r\nabc"[..]]).unwrap();
    assert_eq!((decoded.body.as_slice(), decoded.ended), (&b"abc"[..], false));
}

#[test]
fn lengths_end_where_they_say() {
    for split in all_splits(b"helloHTTP") {
        let (decoded, rest) = decode(Length::Exact(5), split).unwrap();
        assert_eq!((decoded.body.as_slice(), decoded.ended, &rest[..]), (&b"hello"[..], true, &b"HTTP"[..]));
        let (decoded, rest) = decode(Length::UntilClose, split).unwrap();
        assert_eq!((decoded.body.as_slice(), decoded.ended, rest.len()), (&b"helloHTTP"[..], false, 0));
    }
    assert!(Decoder::new(Length::Exact(0)).is_end() && Decoder::new(Length::None).is_end());
}

proptest! {
    /// What comes out is what went in, whatever the chunks and however they arrive.
    #[test]
    fn chunks_in_pieces_decode_to_the_body(
        body in proptest::collection::vec(any::<u8>(), 0..3000),
        sizes in proptest::collection::vec(1_usize..700, 1..20),
        cuts in proptest::collection::vec(1_usize..200, 1..20),
        trailers in proptest::collection::vec(("x-[a-z]{1,8}", "[!-~]{1,12}"), 0..4),
    ) {
        let mut message = Vec::new();
        let (mut rest, mut sizes) = (&body[..], sizes.iter().cycle());
        while !rest.is_empty() {
            let (chunk, left) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            message.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
            message.extend_from_slice(chunk);
            message.extend_from_slice(b"\r\n");
            rest = left;
        }
        message.extend_from_slice(b"0\r\n");
        for (name, value) in &trailers {
            message.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        message.extend_from_slice(b"\r\n");
        let complete = message.len();
        message.extend_from_slice(b"next");

        let (mut pieces, mut rest, mut cuts) = (Vec::new(), &message[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, left) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            pieces.push(piece);
            rest = left;
        }
        let (decoded, left) = decode(Length::Chunked, pieces).unwrap();
        prop_assert!(decoded.ended);
        prop_assert_eq!(&decoded.body, &body);
        prop_assert_eq!(&left[..], &b"next"[..]);
        prop_assert_eq!(decoded.trailers.len(), trailers.len());

        // A byte short of its end it is not complete.
        let (decoded, _) = decode(Length::Chunked, [&message[..complete - 1]]).unwrap();
        prop_assert!(!decoded.ended);
    }

    /// No input makes it fail otherwise than by an error, and how it is split makes no difference.
    #[test]
    fn any_bytes_decode_alike_whole_and_in_pieces(
        message in proptest::collection::vec(
            prop_oneof![Just(b'0'), Just(b'3'), Just(b'a'), Just(b'\r'), Just(b'\n'), Just(b';'), any::<u8>()],
            0..60,
        ),
    ) {
        let whole = decode(Length::Chunked, [&message[..]]);
        let bytewise = decode(Length::Chunked, message.chunks(1));
        match (whole, bytewise) {
            (Ok((whole, _)), Ok((bytewise, _))) => prop_assert_eq!(whole, bytewise),
            (whole, bytewise) => prop_assert_eq!(whole.is_err(), bytewise.is_err()),
        }
    }
}
