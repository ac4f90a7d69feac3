//! The default name of this instance.

/// Returns `host-port`, in the alphabet of names. Two instances on one host differ by their port. If the host name is
/// unspecific, or the port is known only after binding, random digits take their place: two instances with the same
/// name would compete for one lease.
pub(crate) fn instance_name(host: Option<&str>, port: u16) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' };
    let host: String = host.unwrap_or("").chars().map(allowed).take(HOST_BYTES_MAX).collect();
    let is_telling = !host.is_empty() && !host.starts_with("localhost");
    match (is_telling, port) {
        (true, 1..) => format!("{host}-{port}"),
        (true, 0) => format!("{host}-{}", random_digits()),
        (false, _) => format!("gateway-{}", random_digits()),
    }
}

/// Largest part of [`wire::NAME_BYTES_MAX`] that the host name may use. A DNS label has at most 63 bytes.
const HOST_BYTES_MAX: usize = 100;
const _: () = assert!(HOST_BYTES_MAX + "-".len() + 8 <= wire::NAME_BYTES_MAX);

fn random_digits() -> String {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers once it has started");
    format!("{:08x}", u32::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names() {
        for (host, port) in [(Some("web 1/é"), 80), (Some(&*"x".repeat(300)), 65535), (Some("localhost"), 1), (None, 0)]
        {
            let name = instance_name(host, port);
            wire::InstanceId::parse(&name).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert_eq!(instance_name(Some("gw.example"), 8080), "gw.example-8080");
        assert_ne!(instance_name(Some("localhost"), 8080), instance_name(Some("localhost"), 8080));
        assert_ne!(instance_name(Some("gw"), 0), instance_name(Some("gw"), 0));
    }
}
