//! The way from one gateway to Redis, which can be cut and mended.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(crate) struct Proxy {
    address: SocketAddr,
    is_cut: watch::Sender<bool>,
}

impl Proxy {
    pub(crate) async fn start(redis_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let (is_cut, cut) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut gateway, _)) = listener.accept().await {
                let mut cut = cut.clone();
                tokio::spawn(async move {
                    // What comes while it is cut is closed at once, and what goes on when it is cut ends.
                    tokio::select! {
                        biased;
                        _ = cut.wait_for(|cut| *cut) => {}
                        () = async {
                            if let Ok(mut redis) = TcpStream::connect(("127.0.0.1", redis_port)).await {
                                let _ = copy_bidirectional(&mut gateway, &mut redis).await;
                            }
                        } => {}
                    }
                });
            }
        });
        Self { address, is_cut }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    pub(crate) fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    pub(crate) fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}
