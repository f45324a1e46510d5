//! docs/metrics.md says what `/metrics` has.

use std::path::Path;

#[test]
fn the_page_of_metrics_is_current() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let wanted = weir::telemetry::metrics::markdown();

    if std::env::var_os("WEIR_UPDATE").is_some() {
        std::fs::write(&page, &wanted).unwrap();
    }

    let found = std::fs::read_to_string(&page).unwrap_or_default();
    assert_eq!(found, wanted, "run the test again with WEIR_UPDATE=1 to write docs/metrics.md");
}
