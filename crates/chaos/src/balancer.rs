//! HAProxy with the shipped file, in front of the gateways.

use std::net::SocketAddr;
use std::path::Path;

use test_support::haproxy::{self, Backend, GATEWAYS, Listeners, Server};
use test_support::{Process, ReservedPort};

use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::polling::until;
use crate::process::{self, reserve_port};

#[derive(Debug)]
pub(crate) struct Balancer {
    /// The address to which clients connect.
    pub(crate) address: SocketAddr,
    statistics: SocketAddr,
    process: Process,
    _ports: [ReservedPort; 2],
}

impl Balancer {
    /// Starts HAProxy and waits until it has seen every gateway.
    pub(crate) async fn start(program: &Path, directory: &Path, gateways: &[Gateway]) -> Result<Self, Failure> {
        let ports = [reserve_port()?, reserve_port()?];
        let [clients, statistics] = ports.each_ref().map(ReservedPort::address);
        let backends: Vec<Backend> = gateways.iter().map(Gateway::backend).collect();
        let backends: &[Backend; GATEWAYS] = backends.as_slice().try_into().map_err(|_| {
            Failure::Process(format!("the shipped file has lines for {GATEWAYS} gateways, not for {}", gateways.len()))
        })?;
        let command = haproxy::command(program, directory, Listeners { clients, statistics }, backends);
        let process = process::start("haproxy", &command, &directory.join("haproxy.log"))?;
        let mut balancer = Self { address: clients, statistics, process, _ports: ports };
        let are_up = || balancer.servers().is_ok_and(|servers| servers.iter().all(|server| server.status == "UP"));
        let waited = until("HAProxy has every gateway", async || are_up()).await;
        balancer.process.check_alive()?;
        waited?;
        Ok(balancer)
    }

    /// The number of times that HAProxy has marked gateway `index` as down.
    pub(crate) fn times_down(&self, index: usize) -> Result<u64, Failure> {
        Ok(self.servers()?[index].times_down)
    }

    /// Proves that clients reached every gateway through HAProxy.
    pub(crate) fn proof(&self) -> Result<String, Failure> {
        let counts = self.servers()?.map(|server| server.connections);
        let text = format!("{} connections through HAProxy, {counts:?} by gateway", counts.iter().sum::<u64>());
        if counts.contains(&0) { Err(Failure::Unproven(text)) } else { Ok(text) }
    }

    fn servers(&self) -> Result<[Server; GATEWAYS], Failure> {
        haproxy::servers(self.statistics).map_err(Failure::io("asking HAProxy for its statistics"))
    }
}
