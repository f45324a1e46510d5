//! What the feature `failpoints` makes of the points: the environment says which of them does what.

use std::ffi::OsString;
use std::process::abort;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::park_timeout;
use std::time::Duration;

use tokio::time::Instant;

use super::{Mechanism, Point};

static ARMED: OnceLock<Armed> = OnceLock::new();

#[derive(Default)]
struct Armed {
    trap: Option<Trap>,
    off: Option<Mechanism>,
    passes: AtomicU32,
}

/// What is to happen where, and at which passage.
struct Trap {
    point: Point,
    nth: u32,
    act: Act,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    /// The process ends by SIGABRT: like SIGKILL it runs no destructor, flushes nothing and ends every thread, and
    /// it needs no second process, during whose start the others would go on.
    Kill,
    /// The thread waits.
    Pause(Duration),
    /// What was done looks as if it had failed.
    Fail,
}

/// Takes what is to happen from the environment: `WEIR_FAILPOINT=point[:nth][=kill|fail|pause:ms]` and
/// `WEIR_BREAK=mechanism`. Says what of that makes no sense.
pub(crate) fn arm(vars: &[(OsString, OsString)]) -> Result<(), String> {
    let variable = |wanted: &str| {
        vars.iter().find(|(name, _)| name == wanted).and_then(|(_, value)| value.to_str())
    };
    let mut armed = Armed::default();
    if let Some(text) = variable("WEIR_FAILPOINT") {
        armed.trap = Some(trap(text).ok_or_else(|| format!("WEIR_FAILPOINT: {text:?}"))?);
    }
    if let Some(text) = variable("WEIR_BREAK") {
        let off = Mechanism::ALL.iter().copied().find(|mechanism| mechanism.name() == text);
        armed.off = Some(off.ok_or_else(|| format!("WEIR_BREAK: {text:?}"))?);
    }
    ARMED.set(armed).map_err(|_| "armed twice".to_owned())
}

fn trap(text: &str) -> Option<Trap> {
    let (place, act) = text.split_once('=').unwrap_or((text, "kill"));
    let (name, nth) = place.split_once(':').unwrap_or((place, "1"));
    let act = match act.split_once(':') {
        None if act == "kill" => Act::Kill,
        None if act == "fail" => Act::Fail,
        Some(("pause", ms)) => Act::Pause(Duration::from_millis(ms.parse().ok()?)),
        None | Some(_) => return None,
    };
    let point = Point::ALL.iter().copied().find(|point| point.name() == name)?;
    Some(Trap { point, nth: nth.parse().ok()?, act })
}

/// Dies here, or waits, if the environment said so.
pub(crate) fn reach(point: Point) {
    fails(point);
}

/// Does what [`reach`] does, and says whether the environment wants what was done here to look as if it had failed.
pub(crate) fn fails(point: Point) -> bool {
    let Some(Armed { trap: Some(trap), passes, .. }) = ARMED.get() else { return false };
    if trap.point != point || passes.fetch_add(1, Ordering::SeqCst) + 1 != trap.nth {
        return false;
    }
    say(point);
    match trap.act {
        Act::Kill => abort(),
        Act::Fail => return true,
        Act::Pause(pause) => {
            let until = Instant::now() + pause;
            while Instant::now() < until {
                park_timeout(until.saturating_duration_since(Instant::now()));
            }
        }
    }
    false
}

/// Says whether the environment wants to do without a mechanism.
pub(crate) fn is_off(mechanism: Mechanism) -> bool {
    ARMED.get().is_some_and(|armed| armed.off == Some(mechanism))
}

#[expect(clippy::print_stderr, reason = "nothing that is buffered outlives the next moment")]
fn say(point: Point) {
    eprintln!("failpoint {}", point.name());
}
