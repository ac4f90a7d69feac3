//! The instructions that `cargo xtask cluster` prints: addresses, how to publish, and how to kill an instance.

use std::env;
use std::path::Path;

use super::fleet::Fleet;

/// The default of the gateways' `redis.prefix`.
const PREFIX: &str = "tidegate";

pub(super) fn text(fleet: &Fleet, binary: &Path) -> String {
    let binary = shown(binary);
    let (port, system) = (fleet.redis.port(), format!("{PREFIX}:{{default/system}}"));
    let pid = |name: &str| fleet.members.iter().find(|member| member.name == name).map_or(0, |member| member.pid());
    let mut text = format!(
        "
The cluster is up.

  page      http://{}/   through HAProxy; open it in two browsers
  haproxy   http://{}/   who holds how many sockets; /metrics for Prometheus
",
        fleet.entrance, fleet.statistics
    );
    for (index, gateway) in fleet.gateways.iter().enumerate() {
        let name = format!("gateway{}", index + 1);
        let (admin, clients) = (gateway.admin, gateway.clients);
        text += &format!("  {name}  http://{admin}/metrics   pid {}, clients at http://{clients}/\n", pid(&name));
    }
    text += &format!(
        "  redis     redis://{redis}   pid {}
  logs      {}/*.log

Publish, with our command and from any language that can call Redis:
  {binary} publish --redis-url redis://{redis} system:news '{{\"text\":\"hello\"}}'
  redis-cli -p {port} FCALL tidegate_publish 2 '{system}:stream' '{system}:meta' news '{{\"type\":\"note\",\"payload\":{{\"text\":\"hello\"}}}}'

Break it and watch the page and HAProxy's table:
  kill -9 {}      gateway2 dies: its clients resume on the others, nothing missing
  kill -STOP {}   gateway3 freezes: its sockets are cut within about 2 s (kill -CONT brings it back)
  kill {}         gateway1 drains: its clients are moved, then it exits
  kill {}         Redis goes: sockets stay, clients are told `degraded`

Ctrl-C ends all of it.
",
        pid("redis"),
        shown(&fleet.dir),
        pid("gateway2"),
        pid("gateway3"),
        pid("gateway1"),
        pid("redis"),
        redis = fleet.redis,
    );
    text
}

/// The path relative to the current directory, if that is shorter.
fn shown(path: &Path) -> String {
    let here = env::current_dir().ok();
    let relative = here.as_deref().and_then(|here| path.strip_prefix(here).ok());
    relative.unwrap_or(path).display().to_string()
}
