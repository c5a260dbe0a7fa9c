use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;

/// A running server that gives one answer, and what it was asked.
struct Running {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<(Sender, usize, bool)>>>,
    _tasks: JoinSet<()>,
}

async fn server(answer: Answer, leader: Option<SocketAddr>) -> Running {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let holder = leader.map_or(Value::Null, |_| json!("catamaran-1"));
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let server = Arc::new(NotificationServer {
        judge: Box::new(move |sender, headers, body| {
            let secret = headers.contains_key("x-catamaran-secret");
            seen.lock().unwrap().push((sender, body.len(), secret));
            answer.clone()
        }),
        leader: leader::tests::leader(&holder, leader.unwrap_or(nowhere)).0,
    });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = Arc::clone(&server);
            let answer = service_fn(move |request| {
                let server = Arc::clone(&server);
                async move { Ok::<_, Infallible>(server.respond(request).await) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    Running {
        address,
        asked,
        _tasks: tasks,
    }
}

async fn ask(to: &Running, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(to.address).await.unwrap();
    let length = body.len();
    let request = format!("{head}\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap()
}

const POST: &str = "POST /azure HTTP/1.1\r\nX-Catamaran-Secret: x";

#[tokio::test]
async fn each_answer_has_its_status() {
    let cases = [
        (Answer::Accepted(3), "202", "3 to verify"),
        (Answer::Nothing, "204", ""),
        (Answer::Refused, "401", "the shared secret is missing or wrong"),
        (Answer::TooMany, "429", "retry-after: 5"),
        (Answer::NotLeading, "503", "retry-after: 5"),
        (
            Answer::Handshake("512d".to_owned()),
            "200",
            r#"{"validationResponse":"512d"}"#,
        ),
    ];
    for (answer, expected, part) in cases {
        let running = server(answer.clone(), None).await;
        let told = ask(&running, POST, "{}").await;
        assert_eq!(status(&told), expected, "{answer:?}: {told}");
        assert!(told.contains(part), "{answer:?}: {told}");
        assert_eq!(*running.asked.lock().unwrap(), [(Sender::Azure, 2, true)]);
    }
}

#[tokio::test]
async fn server_has_three_paths_and_one_method() {
    let running = server(Answer::Nothing, None).await;
    let cases = [
        ("POST / HTTP/1.1", "404"),
        ("POST /metrics HTTP/1.1", "404"),
        ("GET /azure HTTP/1.1", "405"),
        ("OPTIONS /azure HTTP/1.1", "405"),
        ("POST /github HTTP/1.1", "204"),
        ("POST /events HTTP/1.1", "204"),
    ];
    for (head, expected) in cases {
        assert_eq!(status(&ask(&running, head, "{}").await), expected, "{head}");
    }
}

#[tokio::test]
async fn body_beyond_the_limit_is_refused_unread() {
    let running = server(Answer::Accepted(1), None).await;
    let whole = "x".repeat(LARGEST);
    assert_eq!(status(&ask(&running, POST, &whole).await), "202");
    // The announced length alone is enough: nothing of the body is sent.
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head = format!("{POST}\r\nHost: x\r\nContent-Length: {}\r\n\r\n", LARGEST + 1);
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; LARGEST + 1]).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 413");
    assert_eq!(running.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn event_grid_is_permitted_only_with_an_origin() {
    let running = server(Answer::Nothing, None).await;
    let asking = "OPTIONS /events HTTP/1.1\r\nWebHook-Request-Origin: eventgrid.azure.net";
    let told = ask(&running, asking, "").await;
    assert_eq!(status(&told), "200");
    assert!(told.contains("webhook-allowed-origin: eventgrid.azure.net"), "{told}");
    for origin in ["", "\r\nWebHook-Request-Origin: *", "\r\nWebHook-Request-Origin: a b"] {
        let told = ask(&running, &format!("OPTIONS /events HTTP/1.1{origin}"), "").await;
        assert_eq!(status(&told), "400", "{origin}");
    }
    assert_eq!(*running.asked.lock().unwrap(), []);
}

#[tokio::test]
async fn follower_forwards_what_the_leader_needs() {
    for (answer, expected) in [
        (Answer::Accepted(1), "202"),
        (Answer::Nothing, "204"),
        (Answer::TooMany, "429"),
        (Answer::NotLeading, "503"),
    ] {
        let leader = server(answer.clone(), None).await;
        let follower = server(Answer::NotLeading, Some(leader.address)).await;
        let told = ask(&follower, POST, r#"{"action":"push"}"#).await;
        assert_eq!(status(&told), expected, "{answer:?}: {told}");
        assert_eq!(*leader.asked.lock().unwrap(), [(Sender::Azure, 17, true)]);
    }
}

#[tokio::test]
async fn forwarded_notification_is_not_forwarded_again() {
    let other = server(Answer::Accepted(1), None).await;
    let follower = server(Answer::NotLeading, Some(other.address)).await;
    let told = ask(&follower, &format!("{POST}\r\nX-Catamaran-Forwarded: 1"), "{}").await;
    assert_eq!(status(&told), "503");
    assert_eq!(*other.asked.lock().unwrap(), []);
}

#[tokio::test]
async fn unreachable_leader_is_answered_with_503() {
    let nobody = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap();
    let follower = server(Answer::NotLeading, Some(nobody)).await;
    let told = ask(&follower, POST, "{}").await;
    assert_eq!(status(&told), "503");
    assert!(told.contains("the leader can't be reached"), "{told}");
}
