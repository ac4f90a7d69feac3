//! Planted bugs that show as a failed check in a trial of the fleet. The format is that of [`super::table`].

use super::table::{Edit, Mutant};

const DIRECTORY: &str = "crates/keyspace/lua/directory.lua";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "admission off: everybody comes in at once",
        edits: &[Edit {
            file: "crates/gateway/src/http/edge/admission.rs",
            old: "let limit = (per_second > 0).then(",
            new: "let limit = (per_second == u32::MAX).then(",
        }],
        fault: "storm",
        kinds: &["admission"],
    },
    Mutant {
        name: "no hint: who is refused is not told when",
        edits: &[Edit {
            file: "crates/gateway/src/http/edge/places.rs",
            old: "retry_after_ms: Some(retry_after_ms) }",
            new: "retry_after_ms: (retry_after_ms == 0).then_some(0) }",
        }],
        fault: "storm",
        kinds: &["retry-after"],
    },
    Mutant {
        name: "naive resume, in a storm",
        edits: &[Edit {
            file: "crates/message-router/src/router/interest.rs",
            old: "joins.queue(waiting, context.reach());",
            new: "waiting.after = Some(top).into();\nwaiting.answer_at(scope, top, GapReason::UnknownPosition, context.out);",
        }],
        fault: "storm",
        kinds: &["anomalies"],
    },
    Mutant {
        name: "reaper off: rows of a dead instance stay",
        edits: &[Edit {
            file: "crates/connection-registry/src/roster.rs",
            old: "filter(|peer| peer.status == Status::Gone && !self.doubt)",
            new: "filter(|peer| peer.status == Status::Gone && self.doubt)",
        }],
        fault: "storm",
        kinds: &["stale-rows"],
    },
    Mutant {
        name: "memory kept: each connection leaves 64 KiB",
        edits: &[Edit {
            file: "crates/connection-registry/src/directory.rs",
            old: "        unsynced.changed.remove(&entry.number);\n",
            new: "        unsynced.changed.remove(&entry.number);\n        std::mem::forget(vec![1_u8; 65_536]);\n",
        }],
        fault: "storm",
        kinds: &["memory"],
    },
    Mutant {
        name: "drain without pacing: all are moved at once",
        edits: &[Edit {
            file: "crates/gateway/src/instance/drain.rs",
            old: "let due = match rate.is_finite() {",
            new: "let due = match rate < 0.0 {",
        }],
        fault: "rolling",
        kinds: &["pace"],
    },
    Mutant {
        name: "drain without a word: no reconnect frame",
        edits: &[Edit {
            file: "crates/gateway/src/shard/table/closing.rs",
            old: "            self.reply(slot, &ServerFrame::Reconnect { after_ms });\n",
            new: "            let _: u64 = after_ms;\n",
        }],
        fault: "rolling",
        kinds: &["reconnect-frame"],
    },
    Mutant {
        name: "no session goes on: a reconnect is a new one",
        edits: &[Edit {
            file: "crates/gateway/src/session/mod.rs",
            old: "let own = named.filter(|named| name::is_of(*named, tenant, user));",
            new: "let own = named.filter(|named| !name::is_of(*named, tenant, user)).filter(|_| false);",
        }],
        fault: "limits",
        kinds: &["stale-row-refusal"],
    },
    Mutant {
        name: "limit off: anybody gets one more connection",
        edits: &[Edit { file: DIRECTORY, old: "    if over > 0 or (tenant_max", new: "    if (tenant_max" }],
        fault: "limits",
        kinds: &["limit"],
    },
    Mutant {
        name: "chatter: all rows are written at every heartbeat",
        edits: &[Edit {
            file: "crates/connection-registry/src/heartbeat/directory_sync.rs",
            old: "        let until = Instant::now() + self.sync_max;\n",
            new: "        let until = Instant::now() + self.sync_max;\n        self.directory.rewrite();\n",
        }],
        fault: "idle",
        kinds: &["idle"],
    },
];
