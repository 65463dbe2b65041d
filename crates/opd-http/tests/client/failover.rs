use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use opd_http::{Client, Request};
use opd_testkit::http::{HttpServer, Reply};

use crate::{number, quick};

struct Counted {
    server: HttpServer,
    served: Arc<AtomicUsize>,
}

fn counted(pause: Duration) -> Counted {
    let served = Arc::new(AtomicUsize::new(0));
    let counter = served.clone();
    let server = HttpServer::start(move |request| {
        counter.fetch_add(1, Ordering::SeqCst);
        sleep(pause);
        Reply::json(request.body.clone())
    });
    Counted { server, served }
}

fn ask_all(client: &Client, n: u64, near: Option<usize>) -> Vec<u64> {
    let all = (0..n).map(|n| client.send(near, move || Request::post("/", n.to_string()), number));
    let answers = client.run(futures_util::future::join_all(all));
    answers.into_iter().map(|answer| answer.unwrap().value).collect()
}

#[test]
fn load_goes_to_the_least_busy() {
    let (slow, fast) = (counted(Duration::from_millis(40)), counted(Duration::from_millis(4)));
    let client = Client::new(&[slow.server.url(), fast.server.url()], quick()).unwrap();
    assert_eq!(ask_all(&client, 400, None), (0..400).collect::<Vec<_>>());
    let [slow, fast] = [slow, fast].map(|counted| counted.served.load(Ordering::SeqCst));
    assert_eq!(slow + fast, 400);
    assert!(slow >= 30 && fast > 2 * slow, "slow {slow}, fast {fast}");
}

#[test]
fn a_dead_endpoint_costs_little() {
    let (mut dead, live) = (counted(Duration::ZERO), counted(Duration::from_millis(1)));
    dead.server.stop();
    let client = Client::new(&[dead.server.url(), live.server.url()], quick()).unwrap();
    assert_eq!(ask_all(&client, 300, None), (0..300).collect::<Vec<_>>());
    assert_eq!(live.served.load(Ordering::SeqCst), 300);
    dead.server.resume();
    for _ in 0..50 {
        ask_all(&client, 64, None);
        if dead.served.load(Ordering::SeqCst) > 0 {
            return;
        }
        sleep(Duration::from_millis(10));
    }
    panic!("an endpoint that came back is not used");
}

#[test]
fn a_near_endpoint_is_preferred_until_it_is_much_busier() {
    let (first, second) = (counted(Duration::ZERO), counted(Duration::ZERO));
    let client = Client::new(&[first.server.url(), second.server.url()], quick()).unwrap();
    for n in 0..20 {
        let send = client.send(Some(1), move || Request::post("/", n.to_string()), number);
        assert_eq!(client.run(send).unwrap().endpoint, 1);
    }
    let (first, second) = (counted(Duration::from_millis(20)), counted(Duration::from_millis(20)));
    let client = Client::new(&[first.server.url(), second.server.url()], quick()).unwrap();
    ask_all(&client, 64, Some(1));
    assert!(first.served.load(Ordering::SeqCst) >= 20);
    assert!(second.served.load(Ordering::SeqCst) > first.served.load(Ordering::SeqCst));
}
