//! An API server that answers from a script, and a kubeconfig for it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Ran, catamaran};

/// A request as far as scripts look at it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: String,
    pub body: Value,
}

/// The status code, and the body.
pub type Answer = (u16, Value);

pub struct ApiServer {
    pub home: TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl ApiServer {
    pub fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> ApiServer {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let server = ApiServer {
            home: kubeconfig(&format!("http://{}", listener.local_addr().unwrap())),
            asked: Arc::default(),
        };
        let (asked, answer) = (Arc::clone(&server.asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, asked) = (Arc::clone(&answer), Arc::clone(&asked));
                std::thread::spawn(move || {
                    serve(&stream.unwrap(), |request| {
                        asked.lock().unwrap().push(request.clone());
                        answer(&request)
                    });
                });
            }
        });
        server
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        catamaran(self.home.path(), arguments)
    }

    /// The requests.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// A home with a kubeconfig for this API server.
pub fn kubeconfig(server: &str) -> TempDir {
    let home = TempDir::new().unwrap();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "shop"}}],
    });
    std::fs::create_dir(home.path().join(".kube")).unwrap();
    std::fs::write(home.path().join(".kube/config"), config.to_string()).unwrap();
    home
}

fn serve(mut stream: &TcpStream, answer: impl FnOnce(Asked) -> Answer) {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or_default() == 0 {
            return;
        }
        if line.trim_end().is_empty() {
            break;
        }
        head.push(line.trim_end().to_owned());
    }
    let length = head.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or_default()];
    reader.read_exact(&mut body).unwrap();
    let mut words = head.first().unwrap().split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (code, body) = answer(Asked {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    });
    let (body, length) = (body.to_string(), body.to_string().len());
    // A client that has seen enough may be gone.
    let _ = write!(
        stream,
        "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
}

/// What the API server says of a failure.
pub fn failure(code: u16, reason: &str, message: &str, name: &str) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": message, "details": {"name": name}});
    (code, status)
}

pub fn forbidden(what: &str) -> Answer {
    let message = format!("{what} is forbidden: User \"kev\" cannot list resource \"{what}\"");
    failure(403, "Forbidden", &message, "")
}

pub fn not_found(name: &str) -> Answer {
    failure(404, "NotFound", &format!("\"{name}\" not found"), name)
}

/// A list of these objects.
pub fn list(items: &[Value]) -> Answer {
    (
        200,
        json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "7"}, "items": items}),
    )
}
