//! Requests to stop: which signals are, and what the work does then.

#![cfg(unix)]

mod place;

use place::{Place, Running};

const ENDLESS: &str = "demo --epochs 1000000 --device cpu";

#[test]
fn each_signal_that_asks_to_stop_saves_and_exits_with_130() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1] {
        let place = Place::new();
        let mut demo = Running::start(place.command(ENDLESS));
        demo.wait_for("epoch   1/");
        demo.signal(signal);
        assert_eq!(demo.end(), Some(130), "signal {signal}\n{}", demo.said);
        assert_eq!(demo.said.matches("interrupted: finishing").count(), 1, "{}", demo.said);
        assert!(
            place.path("gradcon-demo/run/models/normal/best/model.safetensors").exists(),
            "signal {signal}\n{}",
            demo.said
        );
    }
}

/// `timeout` signals its child and then the child's group; what is saved after the first request
/// must not be lost to the second.
#[test]
fn one_request_that_arrives_twice_is_one() {
    let place = Place::new();
    let mut demo = Running::start(place.command(ENDLESS));
    demo.wait_for("epoch   1/");
    demo.signal(libc::SIGTERM);
    demo.signal(libc::SIGINT);
    assert_eq!(demo.end(), Some(130), "{}", demo.said);
    assert!(
        place.path("gradcon-demo/run/models/normal/best/model.safetensors").exists(),
        "{}",
        demo.said
    );
}

#[test]
fn a_terminal_that_closes_stops_nothing_under_nohup() {
    let place = Place::new();
    let mut demo =
        Running::start(place.shell(&format!("trap '' HUP; exec \"$GRADCON\" {ENDLESS}")));
    demo.wait_for("epoch   1/");
    demo.signal(libc::SIGHUP);
    demo.wait_for("epoch   4/");
    assert!(!demo.said.contains("interrupted"), "{}", demo.said);
    demo.signal(libc::SIGTERM);
    assert_eq!(demo.end(), Some(130), "{}", demo.said);
}
