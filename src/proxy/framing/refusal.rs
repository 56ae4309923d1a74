//! Why a request was refused on its raw bytes, and how often.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident => $label:literal,)*) => {
        /// Why a request was refused on its raw bytes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $($(#[$doc])* $variant,)*
        }

        impl Refusal {
            /// All reasons, in index order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The label's value.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }
        }
    };
}

refusals! {
    /// More empty lines before a request line than are skipped.
    EmptyLines => "empty_lines",
    /// Not `method SP target SP version`.
    RequestLine => "request_line",
    /// Neither HTTP/1.1 nor HTTP/1.0.
    Version => "version",
    /// A line that ends with LF alone.
    BareLineFeed => "bare_line_feed",
    /// A CR without LF.
    BareReturn => "bare_return",
    /// NUL or another control byte.
    ControlByte => "control_byte",
    /// A line that continues the field before it, or white space before the first field.
    Folded => "folded",
    /// White space between a field's name and its colon.
    SpaceBeforeColon => "space_before_colon",
    /// A field's name that is empty or not a token, or a line without a colon.
    FieldName => "field_name",
    /// HTTP/1.1 without Host.
    MissingHost => "missing_host",
    /// Host more than once.
    RepeatedHost => "repeated_host",
    /// Content-Length that is not a decimal number, or is too great.
    MalformedLength => "malformed_length",
    /// Content-Length more than once, be they equal or not.
    RepeatedLength => "repeated_length",
    /// Content-Length beside Transfer-Encoding.
    LengthWithEncoding => "length_with_encoding",
    /// Any Transfer-Encoding but `chunked`.
    TransferEncoding => "transfer_encoding",
    /// Transfer-Encoding more than once.
    RepeatedEncoding => "repeated_encoding",
    /// Transfer-Encoding in HTTP/1.0.
    EncodingInHttp10 => "encoding_in_http10",
    /// A head of more than [`crate::limits::HEAD_BYTES`].
    HeadBytes => "head_bytes",
    /// A head of more than [`crate::limits::HEAD_FIELDS`].
    HeadFields => "head_fields",
    /// A chunk size that is not a hexadecimal number, or is too great.
    ChunkSize => "chunk_size",
    /// A chunk-size line of more than [`crate::limits::CHUNK_LINE`].
    ChunkLine => "chunk_line",
    /// A chunk that does not end where its size says.
    ChunkEnd => "chunk_end",
    /// A trailer section of more than [`crate::limits::HEAD_BYTES`] or
    /// [`crate::limits::HEAD_FIELDS`].
    Trailers => "trailers",
    /// A pseudo-header field in the trailers of HTTP/2.
    PseudoTrailer => "pseudo_trailer",
    /// More frames of HTTP/2 that ask for no work than [`crate::limits::HTTP2_CONTROL_FRAMES`].
    ControlFrames => "control_frames",
    /// What HTTP's parser refused by itself: a target that is no URI, say, or a line that it gave up
    /// before its end was there to be checked.
    Unparsed => "unparsed",
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "request refused: {}", self.as_str())
    }
}

impl std::error::Error for Refusal {}

/// How many requests were refused, by reason.
#[derive(Debug, Default)]
pub struct RefusalCounts([AtomicU64; Refusal::ALL.len()]);

impl RefusalCounts {
    /// One more.
    pub fn record(&self, refusal: Refusal) {
        if let Some(count) = self.0.get(refusal as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many with this reason.
    pub fn of(&self, refusal: Refusal) -> u64 {
        self.0.get(refusal as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Label and count of each reason.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Refusal::ALL.iter().map(|&refusal| (refusal.as_str(), self.of(refusal)))
    }
}
