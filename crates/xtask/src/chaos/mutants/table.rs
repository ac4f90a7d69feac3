//! The planted bugs. When a text changes in the sources, change it here so that the bug still does what its name says.

/// One planted bug and what must find it.
pub(super) struct Mutant {
    pub(super) name: &'static str,
    pub(super) edits: &'static [Edit],
    /// The fault under which the bug must show: a guarantee behind HAProxy, a trial of the fleet, or a value of
    /// `--fault`, with the path to the gateways if it matters (`drain --via haproxy`).
    pub(super) fault: &'static str,
    /// The bug must show as one of these kinds of anomalies or failed checks.
    pub(super) kinds: &'static [&'static str],
}

/// One text substitution in one file.
pub(super) struct Edit {
    pub(super) file: &'static str,
    /// The text to replace. It occurs exactly once in the file.
    pub(super) old: &'static str,
    pub(super) new: &'static str,
}

const PUBLISH: &str = "crates/keyspace/lua/publish.lua";
const SCOPE: &str = "crates/keyspace/lua/scope.lua";
const INTEREST: &str = "crates/message-router/src/router/interest.rs";
const STREAM: &str = "crates/message-router/src/stream.rs";
const HISTORY: &str = "crates/message-router/src/history.rs";
const EVENT_STREAM: &str = "crates/gateway/src/protocol/event_stream.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "naive resume: nothing is read for who returns",
        edits: &[Edit {
            file: INTEREST,
            old: "joins.queue(waiting, context.reach());",
            new: "waiting.after = Some(top).into();\nwaiting.answer_at(scope, top, GapReason::UnknownPosition, context.out);",
        }],
        fault: "none",
        kinds: &["silent_gap"],
    },
    Mutant {
        name: "no position check: any position is good",
        edits: &[Edit {
            file: HISTORY,
            old: "    check_position(after, history)?;\n",
            new: "    if history.top >= Position::default() {\n        return Ok(());\n    }\n",
        }],
        fault: "failover-lost",
        kinds: &["silent_gap"],
    },
    Mutant {
        name: "no repair: what was missed is not handed on",
        edits: &[Edit {
            file: INTEREST,
            old: "if count > 0 && !self.shards.is_empty() {",
            new: "if count == 0 && !self.shards.is_empty() {",
        }],
        fault: "cut",
        kinds: &["silent_gap", "lost_tail"],
    },
    Mutant {
        name: "counter generation: the old one and 1",
        edits: &[Edit {
            file: SCOPE,
            old: "  if generation <= newest then\n    generation = (floor(newest / 65536) + 1) * 65536 + id_bits\n  end\n",
            new: "  if old then\n    generation = old + 1\n  end\n",
        }],
        fault: "failback",
        kinds: &["offset_reused"],
    },
    Mutant {
        name: "dedupe off: ids are not looked up",
        edits: &[Edit {
            file: PUBLISH,
            old: "    local position = id and known[id]\n",
            new: "    local position = nil\n",
        }],
        fault: "one-way",
        kinds: &["duplicate"],
    },
    Mutant {
        name: "dedupe off: what is held is not compared",
        edits: &[Edit {
            file: "crates/gateway/src/shard/join.rs",
            old: "            (Some(position), Some(after)) => position > after,\n",
            new: "            (Some(_), Some(_)) => true,\n",
        }],
        fault: "latency",
        kinds: &["duplicate"],
    },
    Mutant {
        name: "no anchoring: held behind any history",
        edits: &[
            // Messages are then dropped while a history is read. With the usual limit, that takes a megabyte.
            Edit {
                file: "crates/message-router/src/router.rs",
                old: "held_bytes_max: 1024 * 1024,",
                new: "held_bytes_max: 1_200,",
            },
            Edit {
                file: STREAM,
                old: "            if matches!(place, EnvelopePlace::Hole) && !is_known {\n                return Release::Hole { after: top };\n            }\n",
                new: "",
            },
            Edit {
                file: STREAM,
                old: "                EnvelopePlace::Hole => return Release::Unstored,\n                EnvelopePlace::Next => {",
                new: "                EnvelopePlace::Hole | EnvelopePlace::Next => {",
            },
            Edit {
                file: STREAM,
                old: "        if std::mem::take(&mut sync.again) {\n            return Release::Hole { after: top };\n        }\n",
                new: "",
            },
        ],
        fault: "kill-pubsub-slow",
        kinds: &["silent_gap"],
    },
    Mutant {
        name: "pub/sub before store",
        edits: &[
            Edit {
                file: PUBLISH,
                old: "      if entries > 0 then\n",
                new: "      call(publish_command, channel, '1 ' .. generation .. ' ' .. offset .. ' ' .. stamp .. '\\n' .. topic .. ' '\n        .. #message .. '\\n' .. message)\n      if entries > 0 then\n",
            },
            Edit { file: PUBLISH, old: "  call(publish_command, channel, concat(envelope))\n", new: "" },
        ],
        fault: "wrong-type",
        kinds: &["phantom"],
    },
    Mutant {
        name: "no memory of what Redis has lost",
        edits: &[Edit {
            file: HISTORY,
            old: "if history.torn.iter().any(|generation| *generation >= after.generation) {",
            new: "if history.torn.iter().any(|generation| *generation > u64::MAX - after.generation) {",
        }],
        fault: "failover-lost",
        kinds: &["silent_gap"],
    },
    Mutant {
        name: "a gap for every interruption",
        edits: &[Edit {
            file: HISTORY,
            old: "    check_position(after, history)?;\n",
            new: "    check_position(after, history)?;\n    if !entries.is_empty() {\n        return Err(GapReason::Expired);\n    }\n",
        }],
        fault: "kill-pubsub",
        kinds: &["false_gap"],
    },
    Mutant {
        name: "no fence: another life's token is as good",
        edits: &[Edit {
            file: "crates/keyspace/lua/registry.lua",
            old: "  if held ~= token then\n    return { 'REFUSED', 'TAKEN' }\n  end\n",
            new: "",
        }],
        fault: "stop-gateway",
        kinds: &["stale_write"],
    },
    Mutant {
        name: "no reaper: rows of the dead stay",
        edits: &[Edit {
            file: "crates/connection-registry/src/heartbeat/peer_watch.rs",
            old: "self.roster.dead().take(REAPED_PER_HEARTBEAT_MAX)",
            new: "self.roster.dead().take(REAPED_PER_HEARTBEAT_MAX - REAPED_PER_HEARTBEAT_MAX)",
        }],
        fault: "stop-gateway",
        kinds: &["stale_row"],
    },
    Mutant {
        name: "a row replaces none: a session stays on two sockets",
        edits: &[Edit {
            file: "crates/keyspace/lua/directory.lua",
            old: "          close(incarnation, session, 'replaced')\n        end\n      end\n    end\n    return false\n",
            new: "        end\n      end\n    end\n    return false\n",
        }],
        fault: "two-sockets",
        kinds: &["two_owners"],
    },
    Mutant {
        name: "connections dated by the wall clock of their instance",
        edits: &[Edit {
            file: "crates/connection-registry/src/directory/sync.rs",
            old: "clock_offset.filter(|_| !entry.has_store_time)",
            new: "clock_offset.filter(|_| entry.has_store_time)",
        }],
        fault: "clock-gateway",
        kinds: &["terminal_code"],
    },
    Mutant {
        name: "a stale majority of Sentinels is believed",
        edits: &[Edit {
            file: "crates/redis-topology/src/sentinel/known.rs",
            old: "if now.duration_since(since) < FORGOTTEN_AFTER {",
            new: "if now.duration_since(since) > FORGOTTEN_AFTER {",
        }],
        fault: "sentinel-stale",
        kinds: &["silent_gap", "reorder"],
    },
    Mutant {
        name: "who was not given its session leaves a record",
        edits: &[Edit {
            file: "crates/gateway/src/shard/table/restore.rs",
            old: "if !confirmation.knows(connection.session.id()) {",
            new: "if connection.session.restoring().is_some() {",
        }],
        fault: "stop-redis",
        kinds: &["silent_gap", "lost_tail"],
    },
    Mutant {
        name: "who knows of nothing and holds nothing leaves a record",
        edits: &[Edit {
            file: "crates/gateway/src/shard/delivery_confirmation.rs",
            old: "if held.is_empty() && claim == Claim::New {",
            new: "if held.is_empty() && claim == Claim::Asked {",
        }],
        fault: "kill-gateway",
        kinds: &["silent_gap", "lost_tail"],
    },
    Mutant {
        name: "an older connection that is answered late takes the session over",
        edits: &[Edit {
            file: "crates/connection-registry/src/directory.rs",
            old: "let waits = unsynced.waiting.remove(&session).map(|entry| entry.row.shard);",
            new: "let waits: Option<u16> = None;",
        }],
        fault: "stop-redis",
        kinds: &["turned_away"],
    },
    Mutant {
        name: "who asks finds its own row, and has itself closed",
        edits: &[Edit {
            file: "crates/keyspace/lua/restores.lua",
            old: "if other.session == session and other.incarnation.incarnation ~= own then",
            new: "if other.session == session then",
        }],
        fault: "stop-redis",
        kinds: &["turned_away"],
    },
    Mutant {
        name: "an id is ahead: a message moves every channel",
        edits: &[Edit {
            file: EVENT_STREAM,
            old: "subscribed.position <= Some(position) && is_meant(subscribed);",
            new: "subscribed.position <= Some(position) && (is_meant(subscribed) || position.offset > 0);",
        }],
        fault: "none --transport sse",
        kinds: &["wrong_resume", "silent_gap"],
    },
    Mutant {
        name: "an id stays behind: positions are not kept",
        edits: &[Edit {
            file: EVENT_STREAM,
            old: "            subscribed.position = Some(position);\n",
            new: "            subscribed.is_moved = false;\n",
        }],
        fault: "none --transport sse",
        kinds: &["wrong_resume", "duplicate"],
    },
    Mutant {
        name: "an id passes over the gap that follows it",
        edits: &[Edit { file: EVENT_STREAM, old: "&& !(event.is_afresh && subscribed.position.is_some())", new: "" }],
        fault: "failover-lost --transport sse",
        kinds: &["wrong_resume"],
    },
];
