#![no_main]

#[path = "../../tests/common/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(
    init: {
        // The fuzzer ends at any panic; one of a decoder is caught, and no fault of ours.
        let end = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !gradcon::data::picture::is_decoding() {
                end(panic);
            }
        }));
    },
    |bytes: &[u8]| targets::picture(bytes)
);
