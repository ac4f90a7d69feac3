//! Row 10: the CPU of one delivery over server-sent events, compared with the same delivery over a WebSocket.

use std::time::Duration;

use super::audience::{Audience, Layout, SCOPES};
use super::pairs::{Pair, Pairs};
use super::{Setting, Sizes};
use crate::clients::Transport;
use crate::failure::Failure;
use crate::harness::BenchHarness;
use crate::publisher::Pace;
use crate::report::{BudgetRow, BudgetVerdict, thousands};

/// The same interval as in row 1.
const INTERVAL: Duration = Duration::from_micros(19_960);
/// Limit of the CPU per delivery over server-sent events, relative to WebSockets, with one scope per connection.
const RATIO_MAX: f64 = 1.15;

/// Measures with one scope per connection, then with several. With several scopes, the id of every event names them
/// all.
pub(super) fn run(setting: &Setting) -> Result<Vec<BudgetRow>, Failure> {
    let one = compare(setting, Layout::Shared, "one scope")?;
    let several = compare(setting, Layout::Scopes, &format!("{SCOPES} scopes"))?;
    Ok(vec![one, BudgetRow { limit: "-".into(), verdict: BudgetVerdict::Stated, ..several }])
}

/// Compares two gateways with the same number of receivers of the same messages. They alternate on one core.
fn compare(setting: &Setting, layout: Layout, scopes: &str) -> Result<BudgetRow, Failure> {
    let Sizes { receivers, pairs, window, .. } = setting.sizes;
    let gather = |transport| {
        let harness = BenchHarness::start(&setting.cores, &setting.gateway, "")?;
        Audience::gather_at(harness, transport, layout, receivers)
    };
    let (mut web_sockets, mut event_streams) = (gather(Transport::WebSocket)?, gather(Transport::EventStream)?);
    let pace = Pace::Even { interval: INTERVAL, outstanding_max: u64::MAX };
    // The first run fills buffers and tables that grow only once, and gives every scope a position.
    for audience in [&mut web_sockets, &mut event_streams] {
        audience.run(setting, pace.clone(), 1, Duration::from_secs(1))?;
    }
    let taken = Pairs::take(pairs, || {
        let bare = web_sockets.run(setting, pace.clone(), 1, window)?;
        Ok(Pair {
            bare_us: bare.cpu_us_per_delivery(),
            bare: bare.spent,
            run: event_streams.run(setting, pace.clone(), 1, window)?,
        })
    })?;
    let count = thousands(receivers as f64);
    let what = format!("CPU per delivery over server-sent events ({count} receivers, {scopes} per connection)");
    let mut row = taken.row(what, "WebSocket", RATIO_MAX, event_streams.frame.len());
    let bytes = web_sockets.frame.len();
    row.notes.push(format!("`gateway` is the gateway with event streams; WebSocket frames have {bytes} bytes"));
    Ok(row)
}
