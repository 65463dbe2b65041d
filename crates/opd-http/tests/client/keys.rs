use std::{io::Write, path::Path};

use opd_http::{ApiKey, Client, Error, Settings};
use opd_testkit::http::{HttpServer, Reply};

use crate::{ask, quick};

const KEY: &str = "open-sesame-9f2c";

#[test]
fn a_key_goes_to_the_server_and_nowhere_else() {
    let server = HttpServer::start(|request| match request.header("authorization") {
        Some("Bearer open-sesame-9f2c") => Reply::json(request.body.clone()),
        other => Reply::status(401, format!("no entry with {}", other.unwrap_or("nothing"))),
    });
    let with = |key| {
        let key = Some(ApiKey::new(key).unwrap());
        Client::new(&[server.url()], Settings { key, ..quick() }).unwrap()
    };
    let client = with(KEY);
    assert_eq!(ask(&client, 4).unwrap().value, 4);
    assert!(!format!("{client:?}").contains(KEY), "a key in Debug");

    let wrong = ask(&with("wrong-key-77"), 4).unwrap_err();
    let (said, debug) = (wrong.to_string(), format!("{wrong:?}"));
    assert!(said.contains("status 401: no entry with Bearer ***;"), "{said}");
    assert!(!said.contains("wrong-key-77") && !debug.contains("wrong-key-77"), "{said} {debug}");

    let server = HttpServer::start(|_| Reply::status(503, KEY));
    let key = Some(ApiKey::new(KEY).unwrap());
    let retry = opd_http::Retry { attempts: 2, ..quick().retry };
    let client = Client::new(&[server.url()], Settings { key, retry, ..quick() }).unwrap();
    let error = ask(&client, 4).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(KEY), "{error}");
}

#[test]
fn keys_come_from_files_and_variables() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"  abc-1\n").unwrap();
    assert!(ApiKey::from_file(file.path()).is_ok());
    file.write_all(b"two words").unwrap();
    let error = ApiKey::from_file(file.path()).unwrap_err().to_string();
    assert!(error.contains("odd characters") && !error.contains("abc-1"), "{error}");
    let error = ApiKey::from_file(Path::new("/nowhere/key")).unwrap_err();
    assert!(matches!(error, Error::KeyFile { .. }), "{error}");

    let error = ApiKey::from_env("OPD_NO_SUCH_KEY").unwrap_err().to_string();
    assert_eq!(
        error,
        "environment variable OPD_NO_SUCH_KEY holds no key: it is not set; set it, or name another variable"
    );
    assert!(ApiKey::from_env("PATH").is_ok());
    for bad in ["", "a b", "a\nb", "schlüssel"] {
        assert!(ApiKey::new(bad).is_none(), "{bad:?}");
    }
}

#[test]
fn an_address_may_not_hold_a_password() {
    let error = Client::new(&["http://user:hunter2@h:1"], quick()).unwrap_err().to_string();
    assert!(error.contains("`http://***@h:1`") && !error.contains("hunter2"), "{error}");
    for bad in ["", "h:1", "ftp://h", "http://", "http://h/?a=b", "/generate"] {
        let error = Client::new(&[bad], quick()).unwrap_err();
        assert!(matches!(error, Error::Url { .. }), "{bad}: {error}");
    }
    assert!(matches!(Client::new::<&str>(&[], quick()), Err(Error::Setup { .. })));
    let client = Client::new(&["http://h:1/", "https://h/sub/"], quick()).unwrap();
    assert_eq!(client.endpoints().collect::<Vec<_>>(), ["http://h:1", "https://h/sub"]);
}
