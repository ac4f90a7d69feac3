//! The configuration: what wins, what is refused, what is told, and what is never shown.

mod dev_mode;
mod documents;
mod fit;
mod given;
mod messages;
mod sources;
mod temp_file;
mod tls;
