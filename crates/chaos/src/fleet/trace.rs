//! The events of one client, and the conclusions from them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use history_checker::Position;

/// An event of a client, with its time in microseconds since the trial began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) at_us: u64,
    pub(crate) step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// No instance accepted the connection.
    NoInstance,
    /// This instance sent `welcome`.
    Welcomed(usize),
    /// All its subscriptions are active.
    Live,
    /// The client has received everything of its n-th subscription up to this position.
    Has(usize, Position),
    /// The connection ended: the close code (1006 if there was none), and whether it contained a time to reconnect.
    Ended(u16, bool),
}

/// One interruption, and when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Absence {
    pub(crate) ended_us: u64,
    pub(crate) code: u16,
    pub(crate) has_retry_after: bool,
    /// The time at which all subscriptions were active again.
    pub(crate) live_us: u64,
    /// The time at which the client had received everything that had been acknowledged before `live_us`.
    pub(crate) caught_up_us: u64,
}

/// The client writes the trace, and the trial reads it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    moments: Vec<Moment>,
    latest_us: u64,
}

/// For each scope, the times at which positions were known to be acknowledged.
pub(crate) type AcknowledgedPositions = BTreeMap<String, Vec<(u64, Position)>>;

impl Trace {
    pub(crate) fn note(&self, at_us: u64, step: Step) {
        self.inner().moments.push(Moment { at_us, step });
    }

    /// Notes the time between the first sending of a message and its arrival.
    pub(crate) fn note_lateness(&self, us: u64) {
        let mut inner = self.inner();
        inner.latest_us = inner.latest_us.max(us);
    }

    /// The longest time between the first sending of a message and its arrival.
    pub(crate) fn latest_us(&self) -> u64 {
        self.inner().latest_us
    }

    pub(crate) fn moments(&self) -> Vec<Moment> {
        self.inner().moments.clone()
    }

    /// The instance to which the client is connected.
    pub(crate) fn instance(&self) -> Option<usize> {
        let mut instance = None;
        for moment in &self.inner().moments {
            match moment.step {
                Step::Welcomed(there) => instance = Some(there),
                Step::Ended(..) => instance = None,
                Step::NoInstance | Step::Live | Step::Has(..) => {}
            }
        }
        instance
    }

    /// The interruptions since `from_us`: from the end of a connection on which the client was live until it was live
    /// again and had caught up. `names` are the scopes of its subscriptions, in their order. An interruption that has
    /// not ended is left out.
    pub(crate) fn absences(
        &self,
        from_us: u64,
        names: &[String],
        acknowledged: &AcknowledgedPositions,
    ) -> Vec<Absence> {
        let moments = self.moments();
        let (mut found, mut is_live, mut ended) = (Vec::new(), false, None);
        for Moment { at_us, step } in &moments {
            match *step {
                Step::Live => {
                    is_live = true;
                    if let Some((ended_us, code, has_retry_after)) = ended.take() {
                        let caught_up_us = caught_up(&moments, *at_us, names, acknowledged);
                        found.push(Absence { ended_us, code, has_retry_after, live_us: *at_us, caught_up_us });
                    }
                }
                Step::Ended(code, has_retry_after) if is_live => {
                    is_live = false;
                    ended = (*at_us >= from_us).then_some((*at_us, code, has_retry_after));
                }
                Step::NoInstance | Step::Welcomed(_) | Step::Has(..) | Step::Ended(..) => {}
            }
        }
        found
    }

    /// The duration of each connection, from `welcome` to its end. An open connection ends now.
    pub(crate) fn stays(&self, now_us: u64) -> Vec<(u64, u64)> {
        let (mut stays, mut since) = (Vec::new(), None);
        for Moment { at_us, step } in self.moments() {
            match step {
                Step::Welcomed(_) => since = Some(at_us),
                Step::Ended(..) => stays.extend(since.take().map(|from| (from, at_us))),
                Step::NoInstance | Step::Live | Step::Has(..) => {}
            }
        }
        stays.extend(since.map(|from| (from, now_us)));
        stays
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time at which the client had everything that was acknowledged before it was live, or `u64::MAX` for never.
fn caught_up(moments: &[Moment], live_us: u64, names: &[String], acknowledged: &AcknowledgedPositions) -> u64 {
    let one = |(index, name): (usize, &String)| {
        let known = acknowledged.get(name).map_or(&[][..], Vec::as_slice);
        let Some(target) = known.iter().filter(|(at_us, _)| *at_us <= live_us).map(|(_, at)| *at).max() else {
            return live_us;
        };
        let has = |moment: &&Moment| matches!(moment.step, Step::Has(of, at) if of == index && at >= target);
        moments.iter().find(has).map_or(u64::MAX, |moment| moment.at_us.max(live_us))
    };
    names.iter().enumerate().map(one).max().unwrap_or(live_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absence_ends_when_everything_acknowledged_by_then_has_come() {
        let at = |offset| Position { generation: 1, offset };
        let trace = Trace::default();
        trace.note(5, Step::Live);
        trace.note(6, Step::Has(0, at(1)));
        trace.note(10, Step::Ended(1006, false));
        trace.note(11, Step::Ended(1013, true));
        trace.note(20, Step::Welcomed(1));
        trace.note(22, Step::Live);
        trace.note(30, Step::Has(0, at(3)));
        trace.note(40, Step::Ended(1012, true));
        let names = [String::from("a")];
        // The last message was acknowledged after the client was live, so it does not count for the return.
        let acknowledged = AcknowledgedPositions::from([("a".into(), vec![(1, at(1)), (15, at(3)), (25, at(4))])]);
        let expected = Absence { ended_us: 10, code: 1006, has_retry_after: false, live_us: 22, caught_up_us: 30 };
        assert_eq!(trace.absences(0, &names, &acknowledged), [expected]);
        assert_eq!(trace.absences(11, &names, &acknowledged), []);
        assert_eq!(trace.stays(50), [(20, 40)]);
        let more = AcknowledgedPositions::from([("a".into(), vec![(1, at(9))])]);
        assert_eq!(trace.absences(0, &names, &more)[0].caught_up_us, u64::MAX, "it never had it");
    }
}
