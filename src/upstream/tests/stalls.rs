//! Endpoints that answer and do not read what they are sent.

use tokio::sync::oneshot;

use super::*;

/// A body without an end; drops what it holds when it is dropped.
fn endless(held: oneshot::Sender<()>) -> RequestBody {
    let frames = std::iter::repeat_with(move || {
        let _held = &held;
        Ok::<_, BodyError>(Frame::data(Chunk::free(Bytes::from_static(&[b'x'; 16 * 1024]))))
    });
    Some(Box::pin(StreamBody::new(iter(frames))))
}

/// What is read of the answer to an upload without an end, and after how many seconds the upload was
/// given up. The endpoint ends its answer once it was.
async fn given_up(upstream: &Upstream, go: oneshot::Sender<()>) -> (String, u64) {
    let start = tokio::time::Instant::now();
    let (parts, ()) = Request::post("/").header("host", "a").body(()).unwrap().into_parts();
    let (held, dropped) = oneshot::channel();
    let head = Head::new(&parts, Length::Chunked);
    let message = Message::new(upstream.backend.speech(), &head, endless(held)).unwrap();
    let policy = primary_policy(None);
    let exchanged = exchange(&upstream.worker, &upstream.backend, message, None, &policy).await.unwrap();
    let mut body = exchanged.response.into_body();
    let reading = async {
        let mut text = String::new();
        while let Some(frame) = std::future::poll_fn(|task| Pin::new(&mut body).poll_frame(task)).await {
            text.extend(frame.unwrap().into_data().iter().map(|data| String::from_utf8_lossy(data)));
        }
        text
    };
    let giving_up = async {
        assert!(dropped.await.is_err());
        go.send(()).unwrap();
        start.elapsed().as_secs()
    };
    tokio::join!(reading, giving_up)
}

#[tokio::test(start_paused = true)]
async fn over_http1_the_upload_is_given_up_and_the_answer_goes_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = Upstream::new(BackendPolicy::default());
    upstream.publish(&[listener.local_addr().unwrap()]);
    let (go, gone) = oneshot::channel();
    let endpoint = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _some = stream.read(&mut [0; 1024]).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 4\r\n\r\nha").await.unwrap();
        gone.await.unwrap();
        stream.write_all(b"lf").await.unwrap();
        stream
    };
    let ((text, seconds), _stream) = tokio::join!(given_up(&upstream, go), endpoint);
    assert_eq!((text.as_str(), seconds), ("half", limits::WRITE_STALL.as_secs()));
    let set = upstream.backend.endpoints().clone();
    assert_eq!(set.entries()[0].endpoint.load(Lane::Primary), (0, 0), "its connection is not used again");
}

#[tokio::test(start_paused = true)]
async fn over_http2_the_upload_is_given_up_and_the_answer_goes_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = Upstream::speaking(Protocol::H2c, BackendPolicy::default());
    upstream.publish(&[listener.local_addr().unwrap()]);
    let (go, gone) = oneshot::channel();
    let mut endpoint = JoinSet::new();
    endpoint.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        let mut answer = respond.send_response(Response::new(()), false).unwrap();
        answer.send_data("ha".into(), false).unwrap();
        // What is not released opens no window; the connection is driven all the while.
        let (_unread, driving) = (request, async { while connection.accept().await.is_some() {} });
        let ending = async {
            gone.await.unwrap();
            answer.send_data("lf".into(), true).unwrap();
            std::future::pending::<()>().await;
        };
        tokio::join!(driving, ending);
    });
    let (text, seconds) = given_up(&upstream, go).await;
    assert_eq!((text.as_str(), seconds), ("half", limits::WRITE_STALL.as_secs()));
}
